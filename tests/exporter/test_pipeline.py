"""The story of an export: its steps in order, and what is let go on the way."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import write_deebert
from effbert.exporter import export, pipeline
from effbert.exporter.checkpoints.checkpoint import Checkpoint


def test_an_export_says_its_steps_before_it_takes_them(tmp_path: Path) -> None:
    checkpoint = write_deebert(tmp_path / "checkpoint", layers=3, tokenizer="fast")
    said: list[str] = []
    options = {"precision": "int8", "min_agreement": 0.0, "policy": "confidence", "opset": 22}
    (tmp_path / "data.csv").write_text("text,label\na good film,1\nwhat a bad story,0\n")
    export(
        checkpoint,
        tmp_path / "bundle",
        progress=said.append,
        fit_temperature=tmp_path / "data.csv",
        **options,
    )
    assert said == [
        "opening the checkpoint",
        "loading (deebert)",
        "tracing and cutting",
        "lowering the precision to int8",
        "writing",
        said[5],
        "running the segments",
        "fitting temperatures",
    ]
    assert said[5].startswith("running torch on ")


@pytest.mark.slow
def test_the_tensors_of_the_checkpoint_are_gone_when_the_segments_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_deebert(tmp_path / "checkpoint", layout="castorini", layers=3, labels=2)
    read: list[weakref.ref[torch.Tensor]] = []
    load = Checkpoint.load_tensors

    def remember(self: Checkpoint) -> dict[str, torch.Tensor]:
        tensors = load(self)
        read.extend(weakref.ref(tensor) for tensor in tensors._tensors.values())
        return tensors

    examine = pipeline.examine

    def look(*arguments: Any) -> Any:
        gc.collect()
        assert read
        assert not [each for each in read if each() is not None]
        return examine(*arguments)

    monkeypatch.setattr(Checkpoint, "load_tensors", remember)
    monkeypatch.setattr(pipeline, "examine", look)
    assert export(checkpoint, tmp_path / "bundle").manifest is not None

"""The cache of traces that the tests use: what it gives back is what would have been traced."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import write_deebert
from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import deebert, plain
from effbert.exporter.models.exit_model import MultiExitModel
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import TraceError
from export_command import contents
from families import write_family
from trace_cache import key_of, original, read, through_disk, tracing_with


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_deebert(tmp_path_factory.mktemp("cached") / "c", layers=2, tokenizer=None)


def load(checkpoint: Path, **options: Any) -> Any:
    return deebert.load(open_checkpoint(checkpoint), LoadOptions(**options)).eval()


@pytest.mark.slow
def test_a_bundle_of_a_kept_trace_is_the_same_to_the_bit(checkpoint: Path, tmp_path: Path):
    calls = []

    def counted(model: Any, opset: int) -> Any:
        calls.append(opset)
        return original()(model, opset)

    with tracing_with(through_disk(counted, tmp_path / "cache")):
        for name in ("traced", "kept"):
            export(checkpoint, tmp_path / name)
    assert len(calls) == 1
    assert contents(tmp_path / "kept") == contents(tmp_path / "traced")
    [file] = (tmp_path / "cache").glob("*.onnx")
    assert [[*each.outputs] for each in read(file).exits] == [
        ["logits"],
        ["logits", "override_logits"],
    ]

    def keep_again(model: Any, opset: int) -> Any:
        calls.append(opset)
        return read(file)

    again = through_disk(keep_again, tmp_path / "again")
    model = load(checkpoint)
    with ThreadPoolExecutor(4) as pool:
        traces = [each.result() for each in [pool.submit(again, model, 23) for _ in range(4)]]
    assert len(calls) == 2, "those who want the same trace wait for the first"
    assert len({str(trace.graph.graph.outputs) for trace in traces}) == 1


def test_policies_share_a_trace_and_different_models_do_not(checkpoint: Path, tmp_path: Path):
    key = key_of(load(checkpoint), 23)
    assert key_of(load(checkpoint), 23) == key
    assert key_of(load(checkpoint, policy="vote"), 23) == key
    others = [
        key_of(load(checkpoint), 18),
        key_of(load(checkpoint, exits=(1,)), 23),
        key_of(load(checkpoint, last_highway=False), 23),
        key_of(load(write_deebert(tmp_path / "c", layers=2, tokenizer=None, seed=9)), 23),
    ]
    assert len({key, *others}) == 5


def test_what_happened_before_in_the_process_does_not_matter(tmp_path: Path):
    write_family(tmp_path / "c", "bert", "text-classification")  # transformers hangs hooks on it
    keys = set()
    for _ in range(2):
        model = plain.load(open_checkpoint(tmp_path / "c"), LoadOptions())
        assert any(part._forward_hooks for part in model.modules())
        keys.add(key_of(model, 23))
    assert len(keys) == 1


def test_the_smallest_change_of_a_model_is_another_one(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    keys = {key_of(load(checkpoint), 23)}
    changed = load(checkpoint)
    weight = next(changed.parameters())
    with torch.no_grad():
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(9.0))
    keys.add(key_of(changed, 23))
    changed = load(checkpoint)
    changed.backbone.config.layer_norm_eps *= 2
    keys.add(key_of(changed, 23))
    changed = load(checkpoint)
    limits = dataclasses.replace(changed.description, padded_to=12)
    changed.description = limits
    keys.add(key_of(changed, 23))
    monkeypatch.setattr(MultiExitModel, "mask", "binary")
    keys.add(key_of(load(checkpoint), 23))
    assert len(keys) == 5


def test_what_cannot_be_traced_is_not_kept(checkpoint: Path, tmp_path: Path):
    def fail(model: Any, opset: int) -> Any:
        raise TraceError("no")

    with pytest.raises(TraceError), tracing_with(through_disk(fail, tmp_path / "cache")):
        export(checkpoint, tmp_path / "out")
    assert not [*(tmp_path / "cache").glob("*.onnx")]

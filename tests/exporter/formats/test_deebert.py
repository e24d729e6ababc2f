"""DeeBERT checkpoints in both published layouts, exported and answered as the paper's loop does."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from checkpoints import write_deebert
from effbert.exporter import export
from effbert.runtime import Session
from exit_checks import (
    batch,
    check_decisions,
    check_size,
    run,
)
from reference import DeeBertReference
from systems.case import ExportedCase
from systems.cases import model_named, models_of
from systems.exported import export_new

NEVER = -math.inf


@models_of("deebert")
def test_the_untrained_last_highway_answers_where_it_is_confident(model: ExportedCase):
    last = [model.reference.signals(row)[-1] for row in model.rows]
    knobs = {"threshold": [NEVER] * (len(model.session.exits) - 1) + [float(np.median(last))]}
    check_decisions(model.session, model.reference, model.rows, knobs, (16,))
    found = run(model.session, model.rows, knobs, (16,))
    assert (found["exit_index"] == len(model.session.exits) - 1).all()
    main = np.stack([model.reference.exits(row)[-1] for row in model.rows])
    changed = np.abs(found["logits"] - main).max(axis=1) > 1e-2
    assert 0.3 < changed.mean() < 0.6


@models_of("deebert", "pabee", without=("pabee-under-bias-1",))
def test_later_segments_need_shapes_for_the_mask_only(model: ExportedCase):
    for segment in model.session.bundle.manifest.segments[1:]:
        graph = onnx.load(model.bundle / segment.file, load_external_data=False).graph
        constants = {weight.name for weight in graph.initializer}
        reshapes = [node for node in graph.node if node.op_type == "Reshape"]
        assert {node.input[1] for node in reshapes} <= constants
        assert [node.op_type for node in graph.node].count("Shape") <= 1


@model_named("deebert-bert-hf", "deebert-bert-castorini")
def test_texts_are_answered_like_their_token_ids(model: ExportedCase):
    texts = ["a great film!", ("what is it?", "who was the 3rd man"), ""]
    knobs = {"threshold": model.quantile(0.5)}
    tokenizer = model.session.bundle.manifest.tokenizer
    assert tokenizer is not None
    reader = Tokenizer.from_file(str(model.bundle / tokenizer.file))
    for text, prediction in zip(texts, model.session(texts, knobs=knobs), strict=True):
        encoding = reader.encode(*text) if isinstance(text, tuple) else reader.encode(text)
        ids, types = encoding.ids, encoding.type_ids
        assert ids[0] == 2
        assert ids.count(3) == (2 if isinstance(text, tuple) else 1)
        decision = model.reference.decide(ids, types=types, **knobs)
        assert prediction.exit_layer == decision.exit_number
        assert prediction.score == pytest.approx(float(decision.logits.softmax(-1).max()), abs=1e-4)


@pytest.mark.slow
def test_a_bundle_is_not_larger_than_its_checkpoint(tmp_path: Path):
    options = {"hidden": 256, "layers": 3, "tokenizer": None}
    model = export_new(tmp_path, write_deebert, DeeBertReference, **options)
    check_size(model.bundle, model.checkpoint)
    assert not (model.bundle / "weights.bin").exists()


def write_extreme(folder: Path, layout: str, bias: list[float]) -> Path:
    """A checkpoint whose first highway answers `bias` for every row."""
    write_deebert(folder, layout=layout, layers=2, labels=2, tokenizer=None)
    file = folder / ("pytorch_model.bin" if layout == "castorini" else "model.safetensors")
    safe = file.suffix == ".safetensors"
    tensors = load_file(file) if safe else torch.load(file, weights_only=True)
    tensors["bert.encoder.highway.0.classifier.weight"].zero_()
    tensors["bert.encoder.highway.0.classifier.bias"] = torch.tensor(bias)
    (save_file if safe else torch.save)(tensors, file)
    return folder


@pytest.mark.parametrize(
    "layout, bias, exit_layers",
    [
        ("castorini", [60.0, -60.0], {1.0: 2}),  # NaN: goes on, however sure it is
        # -inf: leaves even at the authors' default
        pytest.param("hf", [85.0, 0.0], {-1.0: 1, NEVER: 2}, marks=pytest.mark.slow),
    ],
)
def test_entropies_that_overflow_decide_as_the_authors_code(
    layout: str, bias: list[float], exit_layers: dict[float, int], tmp_path: Path
):
    checkpoint = write_extreme(tmp_path / "checkpoint", layout, bias)
    export(checkpoint, tmp_path / "bundle")
    session, reference = Session(tmp_path / "bundle"), DeeBertReference(checkpoint)
    rows = [[2, 9, 8, 3], [2, 3], [2, 30, 40, 50, 60, 3]]
    for threshold, exit_layer in exit_layers.items():
        result = session.run(batch(rows), {"threshold": threshold})
        assert (result.exit_layer == exit_layer).all()
        assert all(reference.decide(row, threshold).exit_number == exit_layer for row in rows)

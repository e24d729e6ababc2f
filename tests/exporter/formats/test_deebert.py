"""DeeBERT checkpoints in both published layouts, exported and answered as the paper's loop does."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    check_default_knobs,
    check_every_exit,
    check_minimal_host,
    check_row_independence,
    check_size,
    run,
)
from matrices import slow_but
from reference import DeeBertReference

NAMES = [
    "deebert-bert-hf",
    "deebert-bert-castorini",
    "deebert-roberta-hf",
    "deebert-roberta-castorini",
]
NEVER = -math.inf
every_checkpoint = pytest.mark.parametrize(
    "name", slow_but(NAMES, "deebert-bert-hf", "deebert-roberta-castorini")
)


@pytest.fixture
def model(exported: Callable, name: str):
    return exported(name)


def quantile(model, q: float) -> float:
    """The entropy below which a share `q` of all highways of all rows fall."""
    return float(np.quantile([model.reference.signals(row) for row in model.rows], q))


@every_checkpoint
def test_every_exit_answers_like_the_reference(model):
    check_every_exit(model.session, model.reference, model.rows)


@every_checkpoint
@pytest.mark.parametrize("q", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("sizes", [(1,), (16, 3, 8)], ids=["alone", "batches"])
def test_rows_leave_where_the_loop_says(model, q: float, sizes: tuple[int, ...]):
    knobs = {"threshold": quantile(model, q)}
    met = check_decisions(model.session, model.reference, model.rows, knobs, sizes)
    assert len(met) >= 3


@every_checkpoint
def test_every_exit_may_have_its_own_threshold(model):
    signals = np.array([model.reference.signals(row) for row in model.rows])
    thresholds = [float(np.quantile(column, 0.3)) for column in signals.T]
    thresholds[1] = NEVER
    met = check_decisions(
        model.session, model.reference, model.rows, {"threshold": thresholds}, (16, 1)
    )
    assert met == [1, 3, 4, 5]


@every_checkpoint
def test_the_untrained_last_highway_answers_where_it_is_confident(model):
    last = [model.reference.signals(row)[-1] for row in model.rows]
    knobs = {"threshold": [NEVER] * 4 + [float(np.median(last))]}
    check_decisions(model.session, model.reference, model.rows, knobs, (16,))
    found = run(model.session, model.rows, knobs, (16,))
    assert (found["exit_layer"] == 5).all()
    main = np.stack([model.reference.exits(row)[-1] for row in model.rows])
    changed = np.abs(found["logits"] - main).max(axis=1) > 1e-2
    assert 0.3 < changed.mean() < 0.6


@every_checkpoint
def test_default_knobs_never_stop_a_row(model):
    check_default_knobs(model.session, model.reference, model.rows[:50])


@every_checkpoint
def test_rows_do_not_depend_on_each_other(model):
    knobs = {"threshold": quantile(model, 0.3)}
    check_row_independence(model.session, model.reference, model.rows, knobs)


@every_checkpoint
def test_the_minimal_host_agrees(model):
    for threshold in (quantile(model, 0.3), [quantile(model, 0.4)] * 5):
        check_minimal_host(model.session, model.rows[:60], {"threshold": threshold})
    check_minimal_host(model.session, model.rows[:10], {})


@every_checkpoint
def test_later_segments_need_shapes_for_the_mask_only(model):
    for segment in model.session.bundle.manifest.segments[1:]:
        graph = onnx.load(model.bundle / segment.file, load_external_data=False).graph
        constants = {weight.name for weight in graph.initializer}
        reshapes = [node for node in graph.node if node.op_type == "Reshape"]
        assert {node.input[1] for node in reshapes} <= constants
        assert [node.op_type for node in graph.node].count("Shape") <= 1


@every_checkpoint
def test_the_manifest_tells_where_the_bundle_comes_from(model):
    manifest = model.session.bundle.manifest
    ported = model.name.endswith("hf")
    assert manifest.source.format == "deebert"
    assert manifest.source.architecture == model.reference.backbone.prefix
    assert manifest.policy.name == ("entropy-exp" if ported else "entropy-naive")
    assert len(manifest.labels) == len(model.reference.exits(model.rows[0])[0])
    assert [segment.layer for segment in manifest.segments] == [1, 2, 3, 4, 5]
    assert manifest.limits.max_length == 48
    assert manifest.padding_free
    assert manifest.parity is not None
    assert max(map(float, manifest.parity.max_abs_diff)) <= 1e-4


@every_checkpoint
def test_nothing_but_the_weights_is_unpickled(model):
    assert not (model.checkpoint / "pwned").exists()


@pytest.mark.parametrize(
    "name", slow_but(["deebert-bert-hf", "deebert-bert-castorini"], "deebert-bert-hf")
)
def test_texts_are_answered_like_their_token_ids(model):
    texts = ["a great film!", ("what is it?", "who was the 3rd man"), ""]
    knobs = {"threshold": quantile(model, 0.5)}
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
@pytest.mark.parametrize("name", ["deebert-bert-wide"])
def test_a_bundle_is_not_larger_than_its_checkpoint(model):
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
        ("hf", [85.0, 0.0], {-1.0: 1, NEVER: 2}),  # -inf: leaves even at the authors' default
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

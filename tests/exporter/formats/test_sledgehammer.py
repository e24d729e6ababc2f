"""The Right Tool for the Job: checkpoints, exported and answered as the authors' loop does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import FORMATS, choose_format, sledgehammer
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime import Session
from effbert.runtime.errors import CheckpointError, ExportError
from exit_checks import (
    check_decisions,
    run,
)
from export_command import run_command, sentence
from systems.case import ExportedCase
from systems.cases import model_named, models_of
from systems.sledgehammer_checkpoint import HIDDEN, write_sledgehammer
from systems.sledgehammer_reference import SledgehammerReference


@models_of("sledgehammer")
def test_one_threshold_serves_all_exits(model: ExportedCase):
    knobs = {"threshold": float(np.median(model.quantiles(0.5)))}
    met = check_decisions(model.session, model.reference, model.rows, knobs, (16, 1))
    assert len(met) >= min(3, len(model.session.exits))


@model_named("sledgehammer")
def test_a_higher_temperature_divides_the_logits_once(model: ExportedCase):
    rows, knobs = model.rows[:20], {"threshold": 0.0}
    found = run(model.session, rows, knobs, (16,))
    cooler = run(model.session, rows, knobs | {"temperature": 4.0}, (16,))
    np.testing.assert_allclose(cooler["logits"], found["logits"] / 4, atol=1e-6)
    signal = torch.softmax(torch.from_numpy(found["logits"]) / 4, -1).amax(-1)
    np.testing.assert_allclose(cooler["signal"], signal, atol=1e-6)


@models_of("sledgehammer")
def test_sums_of_the_exits_to_come_are_carried_and_no_pooled_states(model: ExportedCase):
    segments = model.session.bundle.manifest.segments
    for k, segment in enumerate(segments[1:], start=1):
        axes = [t.axes for t in segment.inputs if t.name.startswith("carry_")]
        sums = [each for each in axes if each[-1] == HIDDEN]
        assert sums == [["batch", len(segments) - k + 1, HIDDEN]]


@model_named("sledgehammer", "sledgehammer-chained")
def test_labels_and_temperatures_are_those_of_training(model: ExportedCase):
    manifest = model.session.bundle.manifest
    chained = model.name.endswith("chained")
    assert manifest.labels == (["no", "yes"] if chained else ["neg", "neutral", "pos"])
    knobs = {knob.name: knob.default for knob in manifest.knobs}
    expected = [2.0, 1.0, 3.0] if chained else [1.0, 1.0, 1.0]
    assert knobs == {"threshold": "inf", "temperature": expected}
    assert manifest.parity.decisions > 0


@pytest.mark.slow
def test_two_paths_are_enough_for_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint", exits=(0, 1), noise=True)
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle")
    assert outcome.code == 0, outcome.err
    manifest = Session(tmp_path / "bundle").bundle.manifest
    assert (manifest.source.format, manifest.policy.name) == ("sledgehammer", "confidence")
    said = " ".join((outcome.out + outcome.err).split())
    assert "does not hold the temperatures" in said
    assert "--knob temperature=" in said
    assert not (checkpoint / "pwned").exists()


# --- recognition and loading --------------------------------------------------------------------


def load(checkpoint: Path, **options: Any):
    return sledgehammer.load(open_checkpoint(checkpoint), LoadOptions(**options))


def change(checkpoint: Path, *, without: str = "", **tensors: torch.Tensor) -> Path:
    """Leave a tensor out, or replace some."""
    file = checkpoint / "best.th"
    state = torch.load(file, weights_only=True) | tensors
    torch.save({key: value for key, value in state.items() if key != without}, file)
    return checkpoint


@pytest.mark.parametrize("name", ["best.th", "weights.th"])
@pytest.mark.parametrize("noise", [False, True])
def test_it_is_recognised_and_nothing_else(name: str, noise: bool, tmp_path: Path):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint", noise=noise)
    (checkpoint / "best.th").rename(checkpoint / name)
    opened = open_checkpoint(checkpoint)
    assert [path.name for path in opened.weights] == [name]
    found = choose_format("auto", opened.name, opened.shapes, opened.config).name
    assert found == "sledgehammer"
    claims = [each.name for each in FORMATS if each.detect(opened.shapes, opened.config)]
    assert claims == ["sledgehammer"]
    assert not (checkpoint / "pwned").exists()


@torch.no_grad()
@pytest.mark.parametrize(
    "chained, exits", [(False, (1, 5)), (False, (3,)), (False, (3, 5)), (True, (1, 3))]
)
def test_exits_may_be_left_out(chained: bool, exits: tuple[int, ...], tmp_path: Path):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint", chained=chained, temperature="2_3_4")
    model = load(checkpoint, exits=exits)
    kept = [(1, 3, 5).index(layer) for layer in exits]
    assert model.description.defaults == {"temperature": [2.0 + k for k in kept]}
    reference = SledgehammerReference(checkpoint)
    row = [2, 9, 8, 30, 3]
    ids = torch.tensor([row])
    temperature = [torch.tensor(2.0 + k) for k in kept]
    found = model(ids, torch.ones_like(ids), torch.zeros_like(ids), temperature=temperature)
    for (_, outputs), k in zip(found, kept, strict=True):
        torch.testing.assert_close(outputs["logits"][0], reference.exits(row)[k])


def test_exits_that_others_read_stay(tmp_path: Path):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint", chained=True)
    with pytest.raises(ExportError, match="reads the answers of the exits before it"):
        load(checkpoint, exits=(1, 5))


def test_layers_behind_the_deepest_exit_are_not_kept(tmp_path: Path):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint", exits=(0, 2), layers=5)
    model = load(checkpoint)
    assert model.description.layers == (1, 3)
    assert model.backbone.config.num_hidden_layers == 3


def test_the_number_of_heads_may_be_given(tmp_path: Path):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint", exits=(0,))
    edit(checkpoint, num_attention_heads=4)
    assert load(checkpoint).backbone.config.num_attention_heads == 4
    edit(checkpoint, num_attention_heads=3)
    with pytest.raises(CheckpointError, match="3 attention heads do not fit a hidden size of 128"):
        load(checkpoint)


def edit(checkpoint: Path, **entries: object) -> None:
    """Set entries of config.json."""
    file = checkpoint / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.mark.parametrize(
    "text, labels",
    [
        ("neg\nneutral\npos", ("neg", "neutral", "pos")),
        ("neg\nneutral\npos\n", ("neg", "neutral", "pos")),
        ("neg\npos", ("LABEL_0", "LABEL_1", "LABEL_2")),
        ("a\nb\n" + "c" * 5000, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ("a\nb\nc" + "\n" * (2 << 20), ("LABEL_0", "LABEL_1", "LABEL_2")),
        (None, ("LABEL_0", "LABEL_1", "LABEL_2")),
    ],
    ids=["unix", "final newline", "too few", "too long", "too large", "no file"],
)
def test_labels_are_the_lines_of_the_vocabulary(
    text: str | None, labels: tuple[str, ...], tmp_path: Path
):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint", exits=(0,))
    file = checkpoint / "vocabulary" / "labels.txt"
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert load(checkpoint).description.labels == labels


@pytest.mark.parametrize(
    "given, temperatures, noted",
    [
        (None, [1.0, 1.0], True),
        ("1_1", [1.0, 1.0], True),
        ("1.5_0.25", [1.5, 0.25], False),
        (1.5, [1.5, 1.5], False),
    ],
)
def test_temperatures_come_from_the_config_or_are_asked_for(
    given: Any, temperatures: list[float], noted: bool, tmp_path: Path
):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint", exits=(0, 1), temperature=given)
    description = load(checkpoint).description
    assert description.defaults == {"temperature": temperatures}
    assert bool(description.notes) == noted


@pytest.mark.parametrize("given", ["1_2_3", "a_b", "0_1", "-1_1", "nan_1", "inf_1", "", []])
def test_temperatures_that_make_no_sense_are_refused(given: Any, tmp_path: Path):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint", exits=(0, 1), temperature=given)
    with pytest.raises(CheckpointError, match="expected 2 positive numbers joined by _"):
        load(checkpoint)


@pytest.mark.parametrize("model", [None, "bert", {}])
def test_a_config_that_says_nothing_is_enough(model: Any, tmp_path: Path):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint", exits=(0, 1))
    edit(checkpoint, model=model)
    assert load(checkpoint).description.layers == (1, 2)


@pytest.mark.parametrize(
    "missing",
    [
        "_sum_weights.1",
        "_classification_layers.2.bias",
        "bert_model.pooler.dense.weight",
        "bert_model.embeddings.word_embeddings.weight",
        "bert_model.encoder.layer.0.intermediate.dense.weight",
    ],
)
def test_a_missing_tensor_is_named(missing: str, tmp_path: Path):
    checkpoint = change(write_sledgehammer(tmp_path / "checkpoint"), without=missing)
    with pytest.raises(CheckpointError, match=missing.replace(".", r"\.")):
        load(checkpoint)


def test_a_missing_layer_is_named(tmp_path: Path):
    missing = "bert_model.encoder.layer.4.output.dense.weight"
    checkpoint = change(write_sledgehammer(tmp_path / "checkpoint"), without=missing)
    with pytest.raises(CheckpointError, match=r"encoder\.layer\.4\.output\.dense\.weight"):
        load(checkpoint)


@pytest.mark.parametrize("length", [1, 0])
def test_exits_out_of_order_are_refused_by_the_command(
    length: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    checkpoint = write_sledgehammer(tmp_path / "checkpoint")
    change(checkpoint, **{"_sum_weights.1": torch.ones(length)})
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle")
    assert outcome.code == 2
    assert f"_sum_weights.1 has shape [{length}]" in sentence(outcome)
    assert not (tmp_path / "bundle").exists()

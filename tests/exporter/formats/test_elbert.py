"""ELBERT checkpoints, exported and answered as the authors' loop does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import FORMATS, choose_format, elbert
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError
from exit_checks import (
    run,
)
from export_command import run_command, sentence
from systems.case import ExportedCase
from systems.cases import model_named
from systems.elbert_checkpoint import write_elbert


@model_named("elbert-bias-1")
def test_the_rule_starts_with_the_settings_in_the_checkpoint(model: ExportedCase):
    knobs = model.session.knobs
    assert {name: knob.default for name, knob in knobs.items()} == {
        "threshold": 0.2,
        "window": 2,
        "margin": 0.0,
    }
    found = run(model.session, model.rows, {}, (16,))["exit_layer"]
    given = run(model.session, model.rows, {"threshold": 0.2, "window": 2, "margin": 0.0}, (16,))
    np.testing.assert_array_equal(found, given["exit_layer"])
    assert len(set(found)) > 1


# --- recognition and loading --------------------------------------------------------------------


def load(checkpoint: Path, **options: Any):
    return elbert.load(open_checkpoint(checkpoint), LoadOptions(**options))


def change(checkpoint: Path, *, without: str = "", **tensors: torch.Tensor) -> Path:
    """Leave a tensor out, or replace some."""
    file = checkpoint / "pytorch_model.bin"
    state = torch.load(file, weights_only=True) | tensors
    torch.save({key: value for key, value in state.items() if key != without}, file)
    return checkpoint


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("noise", [False, True])
def test_elbert_is_recognised_and_nothing_else(heads: int, noise: bool, tmp_path: Path):
    checkpoint = write_elbert(tmp_path / "checkpoint", num_exit_layers=heads, noise=noise)
    opened = open_checkpoint(checkpoint)
    assert choose_format("auto", opened.name, opened.shapes, opened.config).name == "elbert"
    claims = [each.name for each in FORMATS if each.detect(opened.shapes, opened.config)]
    assert set(claims) <= {"elbert", "plain"}


@pytest.mark.parametrize(
    "thres_name, labels, policy",
    [
        ("entropy", 2, "elbert-entropy"),
        ("bias_2", 3, "elbert-bias-2"),
        ("logits", 2, "elbert-logits"),
        ("something", 2, "none"),
        (None, 2, "none"),
        (["bias_1"], 2, "none"),
        ("bias_1", 1, "none"),
    ],
)
def test_the_rule_is_the_one_that_the_config_names(
    thres_name: Any, labels: int, policy: str, tmp_path: Path
):
    checkpoint = write_elbert(tmp_path / "checkpoint", thres_name=thres_name, labels=labels)
    assert load(checkpoint).description.policy == policy


@pytest.mark.parametrize(
    "settings, defaults",
    [
        ({"thres_name": "entropy", "exit_thres": 0.4}, {"threshold": 0.4}),
        ({"cnt_thres": 8.9}, {"threshold": 0.1, "window": 8, "margin": 0.0}),
        ({"cnt_thres": 1e9}, {"threshold": 0.1, "window": 65, "margin": 0.0}),
        ({"thres_name": "none"}, {}),
    ],
)
def test_knobs_start_where_the_config_says(
    settings: dict[str, Any], defaults: dict[str, float], tmp_path: Path
):
    description = load(write_elbert(tmp_path / "checkpoint", **settings)).description
    assert description.defaults == defaults
    assert not description.notes


def test_a_setting_that_is_missing_is_named_with_the_next_step(tmp_path: Path):
    checkpoint = write_elbert(tmp_path / "checkpoint", thres_name="bias_3")
    [note] = load(checkpoint).description.notes
    assert "range_tmp" in note
    assert "--knob range=VALUE" in note


def test_a_config_without_a_rule_says_how_to_give_one(tmp_path: Path):
    checkpoint = write_elbert(tmp_path / "checkpoint", thres_name=None)
    [note] = load(checkpoint).description.notes
    assert "thres_name" in note
    assert "--policy: elbert-entropy, elbert-bias-1" in note
    assert not load(checkpoint, policy="entropy").description.notes


def test_settings_of_one_rule_are_not_those_of_another(tmp_path: Path):
    checkpoint = write_elbert(tmp_path / "checkpoint")
    assert load(checkpoint, policy="patience").description.defaults == {}


@pytest.mark.parametrize("pooler_input", elbert.INPUTS)
def test_only_heads_that_read_the_first_token_ignore_padding(pooler_input: str, tmp_path: Path):
    checkpoint = write_elbert(tmp_path / "checkpoint", pooler_input=pooler_input)
    assert load(checkpoint).description.padding_free == (pooler_input == "cls")


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"num_exit_layers": 3}, r"4 layers, no multiple of its 3 exit heads"),
        ({"num_exit_layers": 0}, r"num_exit_layers 0, expected a number from 1 to 4"),
        ({"num_exit_layers": None}, r"num_exit_layers None, expected"),
        ({"pooler_input": "last"}, r"pooler_input 'last', expected cls, mean"),
        ({"cnt_thres": -1}, r"cnt_thres -1, expected a number from 0"),
        ({"cnt_thres": "8"}, r"cnt_thres '8', expected a number"),
        ({"margin": True}, r"margin True, expected a number from 0 to 0\.5"),
        ({"exit_thres": math.nan}, r"exit_thres nan, expected a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, Any], said: str, tmp_path: Path
):
    checkpoint = write_elbert(tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text()) | settings
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        load(checkpoint)


@pytest.mark.parametrize(
    "missing, settings",
    [
        ("albert.encoder.exit_out_layers.1.pooler.bias", {"num_exit_layers": 2}),
        ("albert.encoder.exit_out_layer.classifier.weight", {}),
        ("albert.encoder.exit_out_layer.classifier2.bias", {"use_fc2": True}),
        ("albert.pooler.weight", {"use_out_pooler": True}),
        ("albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight", {}),
    ],
)
def test_a_missing_tensor_is_named(missing: str, settings: dict[str, Any], tmp_path: Path):
    checkpoint = change(write_elbert(tmp_path / "checkpoint", **settings), without=missing)
    with pytest.raises(CheckpointError, match=missing.replace(".", r"\.")):
        load(checkpoint)


def test_heads_of_different_classes_are_refused_by_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    name = "albert.encoder.exit_out_layers.1.classifier.weight"
    checkpoint = write_elbert(tmp_path / "checkpoint", num_exit_layers=2)
    outcome = run_command(
        capfd, change(checkpoint, **{name: torch.zeros(3, 24)}), tmp_path / "bundle"
    )
    assert outcome.code == 2
    assert f"{name} has shape [3, 24], expected [2, 24]" in sentence(outcome)
    assert not (tmp_path / "bundle").exists()

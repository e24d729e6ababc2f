"""ELBERT checkpoints, exported and answered as the authors' loop does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import write_pabee
from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import FORMATS, choose_format, elbert
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime import Session
from effbert.runtime.errors import CheckpointError
from exit_checks import (
    check_decisions,
    check_default_knobs,
    check_every_exit,
    check_minimal_host,
    check_row_independence,
    run,
)
from export_command import run_command, sentence
from reference import PabeeReference
from systems.elbert_checkpoint import write_elbert
from systems.elbert_reference import ElbertReference, closeness, elbert_rule
from vocabularies import random_rows


class WindowedPabee(PabeeReference):
    """PABEE's classifiers under ELBERT's bias_1."""

    rule = "bias-1"

    def decide(self, ids: list[int], **knobs: Any):
        return elbert_rule(self.exits(ids), self.rule, **knobs)

    def margin(self, ids: list[int], **knobs: Any) -> float:
        return closeness(self.exits(ids), self.rule, **knobs)


# The knobs that a test gives, and how a checkpoint is written, exported and judged.
BIAS_1 = {"exit_thres": 0.2, "cnt_thres": 2.0, "num_exit_layers": 2, "use_fc2": True}
BIAS_3 = {"thres_name": "bias_3", "use_out_pooler": True, "pooler_input": "mean-max"}
CHECKPOINTS: dict[str, tuple[Callable[..., Path], dict[str, Any], str, type]] = {
    "bias-1": (write_elbert, BIAS_1, "auto", ElbertReference),
    "bias-3-of-all-tokens": (write_elbert, BIAS_3, "auto", ElbertReference),
    "pabee": (write_pabee, {"layers": 4, "tokenizer": None}, "elbert-bias-1", WindowedPabee),
}
KNOBS: list[dict[str, Any]] = [
    {"threshold": 0.3, "window": 3, "margin": 0.05},
    {"threshold": 0.05, "window": 2, "margin": 0.0},
    {"threshold": -math.inf, "window": 2, "margin": 0.2},
]
every_checkpoint = pytest.mark.parametrize("name", CHECKPOINTS)


@dataclass(frozen=True)
class Model:
    """A checkpoint, its bundle, and the loop that both are judged by."""

    name: str
    checkpoint: Path
    bundle: Path

    @cached_property
    def reference(self) -> Any:
        return CHECKPOINTS[self.name][3](self.checkpoint)

    @cached_property
    def session(self) -> Session:
        return Session(self.bundle, threads=1)

    @cached_property
    def rows(self) -> list[list[int]]:
        return list(random_rows("albert", 200))

    def knobs(self, **wanted: Any) -> dict[str, Any]:
        """Those wanted, and the range where there is one: half of what the probabilities cover."""
        return wanted | ({"range": 0.15} if "range" in self.session.knobs else {})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    @cache
    def make(name: str) -> Model:
        folder = tmp_path_factory.mktemp(name)
        write, options, policy, _ = CHECKPOINTS[name]
        checkpoint = write(folder / "checkpoint", **options)
        export(checkpoint, folder / "bundle", policy=policy)
        return Model(name, checkpoint, folder / "bundle")

    return make


@pytest.fixture
def model(exported: Callable[[str], Model], name: str) -> Model:
    return exported(name)


@every_checkpoint
def test_every_exit_answers_like_the_reference(model: Model):
    check_every_exit(model.session, model.reference, model.rows)


@every_checkpoint
@pytest.mark.parametrize("knobs", KNOBS, ids=str)
@pytest.mark.parametrize("sizes", [(1,), (16, 3, 8)], ids=["alone", "batches"])
def test_rows_leave_where_the_loop_says(
    model: Model, knobs: dict[str, Any], sizes: tuple[int, ...]
):
    wanted = model.knobs(**knobs)
    met = check_decisions(model.session, model.reference, model.rows, wanted, sizes)
    assert len(met) >= 2


@every_checkpoint
def test_rows_do_not_depend_on_each_other(model: Model):
    knobs = model.knobs(**KNOBS[0])
    check_row_independence(model.session, model.reference, model.rows, knobs)


@every_checkpoint
def test_the_minimal_host_agrees(model: Model):
    rows = model.rows[:60]
    if not model.session.bundle.manifest.padding_free:  # its caller then sees to equal lengths
        rows = [row[:8] for row in rows if len(row) >= 8]
    for knobs in KNOBS:
        check_minimal_host(model.session, rows, model.knobs(**knobs))
    check_minimal_host(model.session, rows[:10], {})


@pytest.mark.parametrize("name", ["bias-1"])
def test_the_rule_starts_with_the_settings_in_the_checkpoint(model: Model):
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


@every_checkpoint
def test_knobs_that_never_exit_never_do(model: Model):
    never = {name: float(knob.never) for name, knob in model.session.knobs.items()}
    found = run(model.session, model.rows[:50], never, (16,))
    assert (found["exit_layer"] == 4).all()


@pytest.mark.parametrize("name", ["pabee"])
def test_default_knobs_never_stop_a_row_of_another_system(model: Model):
    check_default_knobs(model.session, model.reference, model.rows[:50])


@every_checkpoint
def test_the_manifest_tells_where_the_bundle_comes_from(model: Model):
    manifest = model.session.bundle.manifest
    assert manifest.policy.name == ("elbert-bias-3" if "3" in model.name else "elbert-bias-1")
    assert manifest.source.format == ("pabee" if model.name == "pabee" else "elbert")
    assert manifest.padding_free == (model.name != "bias-3-of-all-tokens")
    assert [segment.layer for segment in manifest.segments] == [1, 2, 3, 4]
    assert manifest.parity is not None
    assert manifest.parity.decisions > 0


def test_two_paths_are_enough_for_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    checkpoint = write_elbert(tmp_path / "checkpoint", layers=2, noise=True, thres_name="logits")
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle")
    assert outcome.code == 0, outcome.err
    manifest = Session(tmp_path / "bundle").bundle.manifest
    assert (manifest.source.format, manifest.policy.name) == ("elbert", "elbert-logits")
    assert "ELBERT" in manifest.source.paper
    assert not (checkpoint / "pwned").exists()


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

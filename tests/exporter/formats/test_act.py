"""ALBERT with Adaptive Computation Time: tokens halt in the graph as in the authors' loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from effbert.exporter import export
from effbert.exporter.formats import choose_format
from effbert.runtime.errors import CheckpointError, ExportError
from exit_checks import (
    run,
)
from systems.act_model import write_act
from systems.case import ExportedCase
from systems.cases import model_named


@model_named("act")
def test_the_default_is_the_epsilon_of_the_checkpoint(model: ExportedCase):
    session, reference, rows = model.session, model.reference, model.rows[:60]
    found = run(session, rows, {}, (16, 1))
    expected = [reference.decide(row).exit_number for row in rows]
    assert found["exit_layer"].tolist() == expected
    assert session.knobs["threshold"].default == pytest.approx(0.99)
    assert len(set(expected)) >= 2


@model_named("act")
def test_rows_that_halted_do_not_change_any_more(model: ExportedCase):
    session, rows = model.session, model.rows[:60]
    stopped = run(session, rows, {}, (16,))
    full = run(session, rows, {"threshold": float("inf")}, (16,))
    assert (full["exit_index"] == 3).all()
    np.testing.assert_allclose(stopped["logits"], full["logits"], atol=1e-5)


@model_named("act")
def test_halting_probability_and_state_are_the_carries(model: ExportedCase):
    first = model.session.bundle.manifest.segments[0]
    outputs = {tensor.name: tensor.axes for tensor in first.outputs}
    carried = [outputs[name] for name in first.carries.values()]
    assert sorted(map(len, carried)) == [2, 3]


@model_named("act")
def test_the_format_is_recognised(model: ExportedCase):
    shapes = dict.fromkeys(model.reference.albert.tensors, (1,))
    shapes = {
        k.replace("albert_layer_groups.0.albert_layers.0", "albert_layer"): s
        for k, s in shapes.items()
    }
    assert choose_format("auto", "x", shapes, {"model_type": "albert_act"}).name == "act"


@model_named("act")
@pytest.mark.parametrize("policy", ["entropy", "confidence", "patience", "vote"])
def test_other_policies_do_not_start_at_its_epsilon(
    model: ExportedCase, policy: str, tmp_path: Path
):
    report = export(model.checkpoint, tmp_path / "out", policy=policy, dry_run=True)
    [threshold] = [knob for knob in report.policy.knobs if knob.name == "threshold"]
    assert threshold.default == threshold.never


def test_a_wrong_epsilon_is_refused(tmp_path: Path):
    checkpoint = write_act(tmp_path / "in", epsilon=2.0)
    with pytest.raises(CheckpointError, match=r"act_epsilon is 2\.0"):
        export(checkpoint, tmp_path / "out")


def test_several_layers_are_refused(tmp_path: Path):
    checkpoint = write_act(tmp_path / "in")
    config = json.loads((checkpoint / "config.json").read_text()) | {"num_hidden_groups": 2}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError):
        export(checkpoint, tmp_path / "out")


def test_halting_needs_a_halting_unit(tmp_path: Path):
    from checkpoints import write_pabee

    checkpoint = write_pabee(tmp_path / "in", layers=2)
    with pytest.raises(ExportError, match="a trained halting unit"):
        export(checkpoint, tmp_path / "out", policy="act", dry_run=True)

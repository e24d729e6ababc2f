"""ALBERT with Adaptive Computation Time: tokens halt in the graph as in the authors' loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from effbert.exporter import export
from effbert.exporter.formats import choose_format
from effbert.runtime import Session
from effbert.runtime.errors import CheckpointError, ExportError
from exit_checks import (
    check_decisions,
    check_every_exit,
    check_minimal_host,
    check_row_independence,
    run,
)
from systems.act_model import ActReference, write_act
from vocabularies import random_rows

ROWS = list(random_rows("albert", 200))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, ActReference, Path]:
    folder = tmp_path_factory.mktemp("act")
    checkpoint = write_act(folder / "checkpoint")
    export(checkpoint, folder / "bundle")
    return Session(folder / "bundle", threads=1), ActReference(checkpoint), checkpoint


def test_every_exit_answers_like_the_reference(model):
    session, reference, _ = model
    check_every_exit(session, reference, ROWS)


@pytest.mark.parametrize("sizes", [(1,), (16, 3, 8)], ids=["alone", "batches"])
@pytest.mark.parametrize("knobs", [{"threshold": 0.6}, {"threshold": 0.9}, {"threshold": 0.99}])
def test_rows_leave_when_all_their_tokens_have_halted(model, knobs: dict, sizes):
    session, reference, _ = model
    assert len(check_decisions(session, reference, ROWS, knobs, sizes)) >= 2


def test_the_default_is_the_epsilon_of_the_checkpoint(model):
    session, reference, _ = model
    found = run(session, ROWS[:60], {}, (16, 1))
    expected = [reference.decide(row).exit_number for row in ROWS[:60]]
    assert found["exit_layer"].tolist() == expected
    assert session.knobs["threshold"].default == pytest.approx(0.99)
    assert len(set(expected)) >= 2


def test_rows_that_halted_do_not_change_any_more(model):
    session, reference, _ = model
    stopped = run(session, ROWS[:60], {}, (16,))
    full = run(session, ROWS[:60], {"threshold": float("inf")}, (16,))
    assert (full["exit_index"] == 4).all()
    np.testing.assert_allclose(stopped["logits"], full["logits"], atol=1e-5)
    del reference


def test_rows_do_not_depend_on_each_other(model):
    session, reference, _ = model
    check_row_independence(session, reference, ROWS[:100], {"threshold": 0.9})


def test_the_minimal_host_agrees(model):
    session, _, _ = model
    check_minimal_host(session, ROWS[:40], {"threshold": 0.9})


def test_halting_probability_and_state_are_the_carries(model):
    first = model[0].bundle.manifest.segments[0]
    outputs = {tensor.name: tensor.axes for tensor in first.outputs}
    carried = [outputs[name] for name in first.carries.values()]
    assert sorted(map(len, carried)) == [2, 3]


def test_the_format_is_recognised(model):
    shapes = dict.fromkeys(model[1].albert.tensors, (1,))
    shapes = {
        k.replace("albert_layer_groups.0.albert_layers.0", "albert_layer"): s
        for k, s in shapes.items()
    }
    assert choose_format("auto", "x", shapes, {"model_type": "albert_act"}).name == "act"


@pytest.mark.parametrize("policy", ["entropy", "confidence", "patience", "vote"])
def test_other_policies_do_not_start_at_its_epsilon(model, policy: str, tmp_path: Path):
    report = export(model[2], tmp_path / "out", policy=policy, dry_run=True)
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

"""What must hold of the bundle of every system, judged by its authors' loop in plain torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from effbert.runtime.checks.replay import validate
from exit_checks import (
    batch,
    check_decisions,
    check_default_knobs,
    check_every_exit,
    check_minimal_host,
    check_row_independence,
    run,
)
from systems.case import ExportedCase, parameters
from systems.cases import CASES
from systems.edits import claims
from systems.exported import inspect

every_case = pytest.mark.parametrize("model", parameters([*CASES.values()]), indirect=True)
own_thresholds = pytest.mark.parametrize(
    "model", parameters([case for case in CASES.values() if case.own is not None]), indirect=True
)
strict_thresholds = pytest.mark.parametrize(
    "model", parameters([case for case in CASES.values() if case.at is not None]), indirect=True
)


def never(model: ExportedCase) -> dict[str, Any]:
    """The value of every knob at which no row exits early."""
    return {name: float(knob.never) for name, knob in model.session.knobs.items()}


def middle(model: ExportedCase) -> dict[str, Any]:
    """Knobs at which about half of the exits are early."""
    knobs = model.case.knobs(model)
    return dict(knobs[len(knobs) // 2])


@every_case
def test_every_exit_answers_like_the_reference(model: ExportedCase):
    check_every_exit(model.session, model.unruled, model.rows)


@every_case
def test_a_deep_look_finds_nothing(model: ExportedCase):
    assert validate(model.session.bundle.path, deep=True, replay=False).nodes


@every_case
@pytest.mark.parametrize("sizes", [(1,), (16, 3, 8)], ids=["alone", "batches"])
def test_rows_leave_where_the_authors_loop_says(model: ExportedCase, sizes: tuple[int, ...]):
    last, several = len(model.case.exit_layers), set()
    for knobs in model.case.knobs(model):
        met = check_decisions(model.session, model.reference, model.rows, dict(knobs), sizes)
        assert len(met) >= model.case.least, knobs
        several |= {*met}
    assert last in several
    assert len(several) >= 2


@own_thresholds
def test_every_exit_may_have_its_own_threshold(model: ExportedCase):
    thresholds = model.quantiles(model.case.own)
    thresholds[1] = never(model)["threshold"]
    if len(thresholds) == 2:  # the last exit needs no threshold to answer
        thresholds = [never(model)["threshold"], model.quantile(0.5)]
    knobs = {"threshold": thresholds}
    met = check_decisions(model.session, model.reference, model.rows, knobs, (16, 1))
    assert (2 in met) == (len(thresholds) == 2)
    assert len(met) >= min(2, len(thresholds) - 1)


@strict_thresholds
def test_a_signal_at_its_threshold(model: ExportedCase):
    """The first exit has three thresholds in turn, the others let nothing leave."""
    stays, knob = never(model)["threshold"], model.session.knobs["threshold"]
    leaves = float(knob.minimum if knob.raising == "later" else knob.maximum)
    row, others = batch(model.rows[:1]), [stays] * (len(model.case.exit_layers) - 1)
    signal = model.session.run(row, {"threshold": [leaves, *others]}).signal[0]
    short, beyond = (np.nextafter(signal, np.float32(end)) for end in (stays, leaves))
    exits = [
        int(model.session.run(row, {"threshold": [float(t), *others]}).exit_index[0])
        for t in (short, signal, beyond)
    ]
    last = len(others)
    assert exits == [last, 0 if model.case.at == "leaves" else last, 0]


@every_case
def test_no_row_leaves_at_the_knobs_that_never_exit(model: ExportedCase):
    found = run(model.session, model.rows[:50], never(model), (16,))
    assert (found["exit_index"] == len(model.case.exit_layers) - 1).all()
    if not model.case.starts:
        check_default_knobs(model.session, model.reference, model.rows[:50])


@every_case
def test_rows_do_not_depend_on_each_other(model: ExportedCase):
    check_row_independence(model.session, model.reference, model.rows, middle(model))


@every_case
def test_the_minimal_host_agrees(model: ExportedCase):
    rows = model.rows[:60]
    if not model.case.padding_free:  # its caller then sees to equal lengths
        rows = [row[:8] for row in rows if len(row) >= 8]
    for knobs in [*model.case.knobs(model), {}]:
        check_minimal_host(model.session, rows, dict(knobs))


@every_case
def test_the_manifest_tells_where_the_bundle_comes_from(model: ExportedCase):
    manifest, case = model.session.bundle.manifest, model.case
    assert (manifest.source.format, manifest.source.architecture) == (
        case.format,
        case.architecture,
    )
    assert case.paper in manifest.source.paper
    assert manifest.policy.name == case.policy
    assert manifest.problem == case.problem
    assert len(manifest.labels) == len(model.reference.exits(model.rows[0])[0])
    assert [segment.layer for segment in manifest.segments] == list(case.exit_layers)
    assert manifest.padding_free == case.padding_free
    assert manifest.parity is not None
    assert max(map(float, manifest.parity.max_abs_diff)) <= 1e-4


@every_case
def test_the_command_and_inspect_name_the_system(model: ExportedCase):
    assert model.case.paper in model.said
    summary = inspect(model.bundle)
    assert summary["source"]["format"] == model.case.format
    assert model.case.paper in summary["source"]["paper"]
    assert [exit_["layer"] for exit_ in summary["exits"]] == list(model.case.exit_layers)


@every_case
def test_the_checkpoint_is_recognised_and_by_no_other_system(model: ExportedCase):
    assert claims(model.checkpoint) == [model.case.format]


@every_case
def test_nothing_but_the_weights_is_unpickled(model: ExportedCase):
    assert not (model.checkpoint / "pwned").exists()

"""PABEE checkpoints, BERT and ALBERT, exported and answered as the paper's loop does."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints import write_pabee
from exit_checks import check_decisions, check_size
from reference import PabeeReference
from systems.case import ExportedCase
from systems.cases import model_named, models_of
from systems.exported import export_new


@model_named("pabee-bert-regression")
@pytest.mark.parametrize("limit", [0.0, 0.1, 1.0])
def test_regression_counts_small_moves(model: ExportedCase, limit: float):
    knobs = {"threshold": 1, "regression_threshold": limit}
    met = check_decisions(model.session, model.reference, model.rows, knobs, (16, 1))
    assert (met == [4]) == (limit == 0)


@models_of("pabee", without=("pabee-under-bias-1",))
def test_patience_beyond_the_exits_never_stops_a_row(model: ExportedCase):
    for patience in (0, len(model.session.exits), 100):
        limit = {"regression_threshold": 1.0} if model.case.problem == "regression" else {}
        knobs = {"threshold": patience, **limit}
        met = check_decisions(model.session, model.reference, model.rows[:40], knobs, (16,))
        assert met == [len(model.session.exits)]


@pytest.mark.slow
def test_albert_is_not_larger_than_its_checkpoint(tmp_path: Path):
    """Within 2 % of the backbone, heads beside it, although one layer serves four segments."""
    options = {"backbone": "albert", "hidden": 512, "layers": 4, "tokenizer": None}
    model = export_new(tmp_path, write_pabee, PabeeReference, **options)
    check_size(model.bundle, model.checkpoint)
    assert (model.bundle / "weights.bin").exists()

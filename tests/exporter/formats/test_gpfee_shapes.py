"""Global Past-Future in more shapes than the fast tests can afford."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from effbert.exporter import export
from effbert.runtime import Session
from exit_checks import (
    LOGITS_ATOL,
    check_every_exit,
    check_size,
    clear_rows,
    run,
)
from exit_rules import deebert_rule
from systems.edits import rewrite
from systems.exported import export_new
from systems.gpfee_checkpoint import write_gpfee
from systems.gpfee_reference import GpfeeReference
from vocabularies import random_rows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("layers", [[1, 3, 5], [4]])
def test_chosen_exits_still_look_at_all_layers(layers: list[int], tmp_path: Path):
    checkpoint = write_gpfee(tmp_path / "in", layers=5, tokenizer=None)
    export(checkpoint, tmp_path / "out", exits=layers)
    session, reference = Session(tmp_path / "out", threads=1), GpfeeReference(checkpoint)
    rows = list(random_rows("bert", 100))
    threshold = float(np.quantile([reference.signals(row) for row in rows], 0.3))
    found = run(session, rows, {"threshold": threshold} if session.knobs else {}, (16, 1))
    for i, row in clear_rows(reference, rows, threshold=threshold):
        kept = [reference.exits(row)[layer - 1] for layer in layers]
        expected = deebert_rule(kept, kept[-1], threshold, "naive")
        assert found["exit_layer"][i] == layers[expected.exit_number - 1]
        np.testing.assert_allclose(found["logits"][i], expected.logits, atol=LOGITS_ATOL)


def test_a_regression_never_stops_early(tmp_path: Path):
    model = export_new(tmp_path, write_gpfee, GpfeeReference, labels=1, layers=3)
    assert not model.session.knobs
    check_every_exit(model.session, model.reference, model.rows)


def test_a_gap_too_wide_for_the_entropy_goes_on(tmp_path: Path):
    """Behind the first layer -sum p ln p is NaN, at the last it is not."""
    checkpoint = write_gpfee(tmp_path / "in", layers=2, labels=2, tokenizer=None)

    def widen(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["classifiers.bias"][0, :2] = torch.tensor([80.0, -80.0])
        tensors["classifiers.bias"][1, :2] = torch.tensor([-80.0, 80.0])
        tensors["bert.pred_layer.weight"].zero_()
        tensors["bert.pred_layer.bias"].zero_()
        tensors["classifiers.gate_proj.weight"].zero_()
        tensors["classifiers.gate_proj.bias"][:] = 8.0  # the past counts, the future hardly
        return tensors

    rewrite(checkpoint, widen)
    export(checkpoint, tmp_path / "out", atol=1e-3)  # of logits near 80
    session, reference = Session(tmp_path / "out", threads=1), GpfeeReference(checkpoint)
    rows = list(random_rows("bert", 20))
    first, last = reference.exits(rows[0])
    assert first[0] - first[1] > 110 > 20 > abs(last[0] - last[1])
    found = run(session, rows, {"threshold": 0.69}, (8,))
    assert (found["exit_layer"] == 2).all()
    assert all(reference.decide(row, 0.69).exit_number == 2 for row in rows)


def test_predictors_that_several_exits_use_are_stored_once(tmp_path: Path):
    options = {"hidden": 256, "layers": 4, "tokenizer": None}
    model = export_new(tmp_path, write_gpfee, GpfeeReference, **options)
    check_size(model.bundle, model.checkpoint)
    assert (model.bundle / "weights.bin").exists()

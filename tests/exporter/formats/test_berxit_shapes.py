"""BERxiT on every encoder with every rule, and the last highway where the user turns it on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from checkpoints import write_deebert
from effbert.exporter import export
from effbert.runtime import Session
from exit_checks import (
    check_decisions,
    check_default_knobs,
    clear_rows,
    run,
)
from reference import DeeBertReference
from systems.berxit_checkpoint import write_berxit
from systems.berxit_reference import BerxitReference
from vocabularies import random_rows

pytestmark = pytest.mark.slow


def rows_of(backbone: str, count: int = 250) -> list[list[int]]:
    return list(random_rows("roberta" if backbone == "roberta" else "bert", count, seed=5))


def test_a_regression_without_learning_to_exit_runs_to_the_end(tmp_path: Path):
    checkpoint = write_berxit(tmp_path / "in", labels=1)
    report = export(checkpoint, tmp_path / "out")
    assert report.policy.name == "none"
    assert report.notes
    session = Session(tmp_path / "out", threads=1)
    assert not session.knobs
    check_default_knobs(session, BerxitReference(checkpoint), rows_of("bert", 30))


def test_entropy_may_replace_learning_to_exit(tmp_path: Path):
    checkpoint = write_berxit(tmp_path / "in", divide="alternate-lte")
    export(checkpoint, tmp_path / "out", policy="entropy-exp")
    reference = BerxitReference(checkpoint)
    reference.learned = False
    rows = rows_of("bert", 100)
    threshold = float(np.median([reference.signals(row) for row in rows]))
    session = Session(tmp_path / "out", threads=1)
    check_decisions(session, reference, rows, {"threshold": threshold}, (16, 1))
    for segment in (tmp_path / "out").glob("*.onnx"):
        names = {weight.name for weight in onnx.load(segment).graph.initializer}
        assert names
        assert not {name for name in names if "score" in name}


@pytest.mark.parametrize("layers", [[1, 3], [4]])
def test_chosen_exits(layers: list[int], tmp_path: Path):
    checkpoint = write_berxit(tmp_path / "in", divide="alternate-lte", seed=3)
    export(checkpoint, tmp_path / "out", exits=layers)
    session, reference = Session(tmp_path / "out", threads=1), BerxitReference(checkpoint)
    rows = rows_of("bert", 100)
    threshold = float(np.quantile([reference.signals(row) for row in rows], 0.4))
    found = run(session, rows, {"threshold": threshold} if session.knobs else {}, (16, 1))
    for i, row in clear_rows(reference, rows, threshold=threshold):
        heads = reference.heads(row)
        left = next((n for n in layers[:-1] if heads.scores[n - 1] < threshold), layers[-1])
        answer = heads.main if left == 4 else heads.highways[left - 1]
        assert found["exit_layer"][i] == left
        np.testing.assert_allclose(found["logits"][i], answer, atol=1e-4, rtol=0)


def test_deebert_without_its_last_highway(tmp_path: Path):
    checkpoint = write_deebert(tmp_path / "in", layers=4)
    export(checkpoint, tmp_path / "out", last_highway=False)
    session, reference = Session(tmp_path / "out", threads=1), DeeBertReference(checkpoint)
    rows = rows_of("bert", 100)
    threshold = float(np.quantile([reference.signals(row) for row in rows], 0.5))
    found = run(session, rows, {"threshold": threshold}, (16, 1))
    assert (found["exit_layer"] == 4).any()
    for i, row in clear_rows(reference, rows, threshold=threshold):
        early = [s < threshold for s in reference.signals(row)[:-1]]
        left = early.index(True) if any(early) else 3
        assert found["exit_index"][i] == left
        answer = reference.exits(row)[left]
        np.testing.assert_allclose(found["logits"][i], answer, atol=1e-4, rtol=0)

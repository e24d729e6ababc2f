"""FastBERT in both layouts with every pooling, other exits and other policies."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from effbert.exporter import export
from effbert.runtime import Session
from exit_checks import (
    check_decisions,
    check_default_knobs,
    check_every_exit,
    check_minimal_host,
    check_row_independence,
    run,
)
from systems.fastbert_checkpoint import write_fastbert
from systems.fastbert_reference import FastBertReference, fastbert_rule
from vocabularies import random_rows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "layout, pooling, labels",
    [*product(["research", "pypi"], ["last", "max"], [2, 4]), ("research", "first", 5)],
)
def test_every_pooling(layout: str, pooling: str, labels: int, tmp_path: Path):
    checkpoint = write_fastbert(
        tmp_path / "in", layout=layout, pooling=pooling, labels=labels, seed=4
    )
    export(checkpoint, tmp_path / "out")
    session, reference = Session(tmp_path / "out", threads=1), FastBertReference(checkpoint)
    rows = list(random_rows("bert", 250, seed=5))
    assert session.bundle.manifest.padding_free == (pooling == "first")
    check_every_exit(session, reference, rows)
    check_default_knobs(session, reference, rows[:30])
    signals = [reference.signals(row) for row in rows]
    for q in (0.1, 0.3, 0.6):
        knobs = {"threshold": float(np.quantile(signals, q))}
        check_decisions(session, reference, rows, knobs, (1, 16, 5))
        if pooling == "first":  # the smallest host neither sorts rows nor cuts them
            check_minimal_host(session, rows[:40], knobs)
    check_row_independence(session, reference, rows, knobs)


@pytest.mark.parametrize("layers", [[1, 3], [2, 4], [3]])
def test_chosen_exits(layers: list[int], tmp_path: Path):
    checkpoint = write_fastbert(tmp_path / "in")
    export(checkpoint, tmp_path / "out", exits=layers)
    session, reference = Session(tmp_path / "out", threads=1), FastBertReference(checkpoint)
    rows = list(random_rows("bert", 100, seed=5))
    threshold = float(np.quantile([reference.signals(row) for row in rows], 0.4))
    found = run(session, rows, {"threshold": threshold} if session.knobs else {}, (16, 1))
    for i, row in enumerate(rows):
        if reference.margin(row, threshold) > 1e-5:
            kept = [reference.exits(row)[layer - 1] for layer in layers]
            expected = fastbert_rule(kept, threshold, packaged=False)
            assert found["exit_layer"][i] == layers[expected.exit_number - 1]
            np.testing.assert_allclose(found["logits"][i], expected.logits, atol=1e-4, rtol=0)

"""FastBERT in both layouts with every pooling, other exits and other policies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effbert.exporter import export
from effbert.runtime import Session
from exit_checks import (
    clear_rows,
    run,
)
from systems.fastbert_checkpoint import write_fastbert
from systems.fastbert_reference import FastBertReference, fastbert_rule
from vocabularies import random_rows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("layers", [[1, 3], [2]])
def test_chosen_exits(layers: list[int], tmp_path: Path):
    checkpoint = write_fastbert(tmp_path / "in")
    export(checkpoint, tmp_path / "out", exits=layers)
    session, reference = Session(tmp_path / "out", threads=1), FastBertReference(checkpoint)
    rows = list(random_rows("bert", 100, seed=5))
    threshold = float(np.quantile([reference.signals(row) for row in rows], 0.4))
    found = run(session, rows, {"threshold": threshold} if session.knobs else {}, (16, 1))
    for i, row in clear_rows(reference, rows, threshold=threshold):
        kept = [reference.exits(row)[layer - 1] for layer in layers]
        expected = fastbert_rule(kept, threshold, packaged=False)
        assert found["exit_layer"][i] == layers[expected.exit_number - 1]
        np.testing.assert_allclose(found["logits"][i], expected.logits, atol=1e-4, rtol=0)

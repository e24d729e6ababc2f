"""ElasticBERT in more shapes than the fast tests can afford."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from effbert.exporter import export
from effbert.runtime import Session
from exit_checks import (
    check_default_knobs,
    check_every_exit,
    run,
)
from systems.elasticbert_checkpoint import write_elasticbert
from systems.elasticbert_reference import ElasticBertReference
from systems.exported import export_new
from vocabularies import random_rows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("labels", [1, 3])
def test_static(labels: int, tmp_path: Path):
    model = export_new(
        tmp_path, write_elasticbert, ElasticBertReference, static=True, labels=labels
    )
    assert "Note: This ElasticBERT was fine-tuned statically" in model.said
    assert not model.session.knobs
    check_every_exit(model.session, model.reference, model.rows)
    check_default_knobs(model.session, model.reference, model.rows)


def test_chosen_exits(tmp_path: Path):
    checkpoint = write_elasticbert(tmp_path / "in", layers=5)
    export(checkpoint, tmp_path / "out", exits=[2, 4])
    session, reference = Session(tmp_path / "out", threads=1), ElasticBertReference(checkpoint)
    rows = list(random_rows("bert", 100))
    found = run(session, rows, {"threshold": math.inf}, (16,))
    assert (found["exit_layer"] == 2).all()
    found = run(session, rows, {}, (16,))
    assert (found["exit_layer"] == 4).all()
    expected = np.stack([reference.exits(row)[3] for row in rows])
    np.testing.assert_allclose(found["logits"], expected, atol=1e-4, rtol=0)

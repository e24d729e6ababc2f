"""ELBERT with every rule and every structure of its heads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effbert.exporter import export
from effbert.runtime import Session
from exit_checks import check_decisions, check_every_exit, check_row_independence
from systems.elbert_checkpoint import write_elbert
from systems.elbert_reference import ElbertReference, first_stage
from vocabularies import random_rows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "settings, labels",
    [
        ({"thres_name": "entropy", "pooler_input": "mean"}, 3),
        ({"thres_name": "entropy", "num_exit_layers": 6, "use_fc2": True}, 2),
        ({"thres_name": "bias_1", "pooler_input": "max", "num_exit_layers": 3}, 2),
        ({"thres_name": "bias_1", "use_out_pooler": True, "use_fc2": True}, 3),
        ({"thres_name": "bias_2", "pooler_input": "cls-mean"}, 2),
        ({"thres_name": "bias_2", "num_exit_layers": 2}, 2),
        ({"thres_name": "bias_3", "pooler_input": "cls-max", "use_out_pooler": True}, 2),
        ({"thres_name": "bias_3", "range_tmp": 0.2}, 2),
        ({"thres_name": "logits", "pooler_input": "mean-max"}, 4),
    ],
    ids=str,
)
def test_every_structure_and_rule(settings: dict[str, Any], labels: int, tmp_path: Path):
    checkpoint = write_elbert(tmp_path / "in", layers=6, labels=labels, seed=3, **settings)
    export(checkpoint, tmp_path / "out")
    session, reference = Session(tmp_path / "out", threads=1), ElbertReference(checkpoint)
    rows = list(random_rows("albert", 300, seed=2))
    check_every_exit(session, reference, rows)
    signals = [[first_stage(x, reference.rule) for x in reference.exits(row)] for row in rows]
    met: set[int] = set()
    for q, window, margin in ((0.1, 2, 0.0), (0.3, 3, 0.1), (0.6, 1, 0.3), (0.0, 4, 0.02)):
        knobs = {"threshold": float(np.quantile(signals, q)) if q else -math.inf}
        wanted = knobs | {"window": window, "margin": margin, "range": 0.1 + margin}
        knobs = {name: value for name, value in wanted.items() if name in session.knobs}
        met |= {*check_decisions(session, reference, rows, knobs, (1, 16, 5))}
        check_row_independence(session, reference, rows[:60], knobs)
    assert len(met) >= 4

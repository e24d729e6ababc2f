"""CascadeBERT in more shapes than the fast tests can afford."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effbert.exporter import export
from effbert.runtime import Session
from exit_checks import (
    check_decisions,
    check_default_knobs,
    check_every_exit,
    run,
)
from systems.cascadebert_checkpoint import write_cascadebert
from systems.cascadebert_reference import CascadeBertReference
from systems.exported import export_new
from vocabularies import random_rows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("options", [{"depths": (2,)}, {"depths": (1, 2), "labels": 1}])
def test_one_member_or_one_label_leaves_nothing_to_decide(options: dict[str, Any], tmp_path: Path):
    model = export_new(tmp_path, write_cascadebert, CascadeBertReference, **options)
    assert not model.session.knobs
    check_every_exit(model.session, model.reference, model.rows)
    check_default_knobs(model.session, model.reference, model.rows)


def test_members_that_were_left_out_do_not_run(tmp_path: Path):
    checkpoint = write_cascadebert(tmp_path / "in", depths=(1, 2, 1))
    export(checkpoint, tmp_path / "out", exits=[1, 4])
    session, reference = Session(tmp_path / "out", threads=1), CascadeBertReference(checkpoint)
    assert [exit_.layer for exit_ in session.exits] == [1, 2]
    rows = list(random_rows("bert", 100))
    found = run(session, rows, {"threshold": 0.8}, (16, 1))
    compared = 0
    for i, row in enumerate(rows):
        signal = reference.signals(row)[0]
        compared += abs(signal - 0.8) > 1e-5
        if abs(signal - 0.8) > 1e-5:
            member = 0 if signal > 0.8 else 2
            assert found["exit_index"][i] == member // 2
            np.testing.assert_allclose(
                found["logits"][i], reference.exits(row)[member], atol=1e-4, rtol=0
            )
    assert compared >= 0.97 * len(rows)


@pytest.mark.parametrize("opset", [18, 23])
def test_other_opsets(opset: int, tmp_path: Path):
    checkpoint = write_cascadebert(tmp_path / "in", depths=(1, 2), tokenizer=None)
    export(checkpoint, tmp_path / "out", opset=opset)
    session, reference = Session(tmp_path / "out", threads=1), CascadeBertReference(checkpoint)
    rows = list(random_rows("bert", 60))
    check_every_exit(session, reference, rows)
    check_decisions(session, reference, rows, {"threshold": 0.8}, (8, 1))

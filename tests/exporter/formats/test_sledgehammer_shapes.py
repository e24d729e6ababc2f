"""The Right Tool for the Job in more shapes, with other policies and with fewer exits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from effbert.exporter import export
from effbert.runtime import Session
from exit_checks import (
    batch,
    run,
)
from exit_rules import entropy_safe
from systems.sledgehammer_checkpoint import write_sledgehammer
from systems.sledgehammer_reference import SledgehammerReference
from vocabularies import random_rows

pytestmark = pytest.mark.slow
ROWS = list(random_rows("bert", 300, seed=4))


def test_other_policies_judge_the_tempered_logits(tmp_path: Path):
    checkpoint = write_sledgehammer(tmp_path / "in", temperature="2_1_3")
    export(checkpoint, tmp_path / "out", policy="entropy")
    session, reference = Session(tmp_path / "out", threads=1), SledgehammerReference(checkpoint)
    exits = [torch.stack(reference.exits(row)) for row in ROWS]
    signals = torch.stack([entropy_safe(each) for each in exits]).numpy()
    threshold = float(np.quantile(signals, 0.4))
    fires = signals < threshold
    fires[:, -1] = True
    clear = np.abs(signals - threshold).min(axis=1) > 1e-5
    found = run(session, ROWS, {"threshold": threshold}, (16, 1))
    np.testing.assert_array_equal(found["exit_index"][clear], fires.argmax(axis=1)[clear])
    assert set(found["exit_index"]) == {0, 1, 2}


@pytest.mark.parametrize("chained, layers", [(False, (3, 5)), (True, (1, 3))])
def test_fewer_exits_answer_as_they_did(chained: bool, layers: tuple[int, ...], tmp_path: Path):
    checkpoint = write_sledgehammer(tmp_path / "in", chained=chained, temperature="2_3_4")
    export(checkpoint, tmp_path / "all")
    export(checkpoint, tmp_path / "some", exits=layers)
    inputs = batch(ROWS[:40])
    every, some = (Session(tmp_path / name, threads=1) for name in ("all", "some"))
    kept = [(1, 3, 5).index(layer) for layer in layers]
    if chained:  # later answers read earlier ones at their temperature, which is 1 here
        assert [exit_.layer for exit_ in some.exits] == [1, 3]
    np.testing.assert_allclose(
        some.run_exits(inputs)["logits"], every.run_exits(inputs)["logits"][kept], atol=1e-5
    )
    last = SledgehammerReference(checkpoint)
    answers = run(some, ROWS[:40], {}, (8,))["logits"]
    for row, logits in zip(ROWS, answers, strict=False):
        np.testing.assert_allclose(logits, last.exits(row)[kept[-1]], atol=1e-4)

"""Every encoder family: the bundle answers as transformers does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effbert.exporter import export
from effbert.runtime import Session
from effbert.runtime.errors import InputError
from families import (
    CONFIGS,
    SHAPES,
    check_minimal_host,
    largest_difference,
    tasks_of,
    write_family,
)

pytestmark = pytest.mark.slow

# Every family has one of its tasks, in turns: heads differ little between families.
CASES = [(name, tasks_of(name)[turn % len(tasks_of(name))]) for turn, name in enumerate(CONFIGS)]
SEES_PADDING = {"mobilebert", "convbert", "fnet", "funnel", "xlnet"}


@pytest.mark.parametrize("name, task", CASES, ids=[f"{name}, {task}" for name, task in CASES])
def test_answers_equal_those_of_transformers(tmp_path: Path, name: str, task: str):
    model = write_family(tmp_path / "checkpoint", name, task)
    report = export(tmp_path / "checkpoint", tmp_path / "bundle")
    assert report.manifest.padding_free == (name not in SEES_PADDING)
    tolerance = 2e-3 if name == "mobilebert" else 1e-4
    with Session(tmp_path / "bundle", threads=1) as session:
        assert largest_difference(model, session, SHAPES) <= tolerance
        check_minimal_host(session)


def test_funnel_refuses_rows_too_short_to_halve(tmp_path: Path):
    write_family(tmp_path / "checkpoint", "funnel", "text-classification")
    export(tmp_path / "checkpoint", tmp_path / "bundle")
    with Session(tmp_path / "bundle", threads=1) as session:
        with pytest.raises(InputError, match=r"got 4 tokens a row, expected integers \[batch, 5"):
            session.run({"input_ids": np.full((1, 4), 7)})
        padded = {"input_ids": np.full((1, 9), 7), "attention_mask": np.arange(9)[None] < 4}
        with pytest.raises(InputError, match="row 0 has 4 tokens, expected 5 or more"):
            session.run(padded)

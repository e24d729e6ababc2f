"""Every checkpoint of the contract suite."""

from __future__ import annotations

from typing import Any

import pytest

from systems.case import Case, parameters
from systems.confidence_cases import CONFIDENCE_CASES
from systems.counting_cases import COUNTING_CASES
from systems.entropy_cases import ENTROPY_CASES

CASES: dict[str, Case] = {
    case.name: case for case in [*ENTROPY_CASES, *COUNTING_CASES, *CONFIDENCE_CASES]
}


def models_of(*formats: str, without: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Run a test with the bundle, `model`, of every case of these formats."""
    chosen = [c for c in CASES.values() if c.format in formats and c.name not in without]
    return pytest.mark.parametrize("model", parameters(chosen), indirect=True)


def model_named(*names: str) -> pytest.MarkDecorator:
    """Run a test with the bundle, `model`, of these cases."""
    chosen: list[Any] = parameters([CASES[name] for name in names])
    return pytest.mark.parametrize("model", chosen, indirect=True)

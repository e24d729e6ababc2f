"""A sweep finds where rows leave as the loop over the exits does."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from effbert.runtime.bundle.manifest import Knob, to_float
from effbert.runtime.points.per_exit import thresholds_by_share
from effbert.runtime.points.sweep import (
    exits_taken,
    knob_value,
    knob_values,
    sweep,
    thresholds_to_try,
    turn_signals,
)

BELOW = Knob(
    name="threshold", dtype="float32", minimum="-inf", maximum="inf", default="-inf",
    never="-inf", per_exit=True, raising="earlier",
)  # fmt: skip
REACHED = msgspec.structs.replace(BELOW, raising="later", never="inf", default="inf")
COUNTED = msgspec.structs.replace(
    BELOW, dtype="int64", minimum=0, maximum=99, default=0, never=0, raising="later", per_exit=False
)
KNOBS = {"below": BELOW, "reached": REACHED, "counted": COUNTED}
RANDOM = np.random.default_rng(0)


def signals_of(kind: str) -> np.ndarray:
    if kind == "counted":
        return RANDOM.integers(0, 5, (6, 200)).astype(np.float32)
    values = RANDOM.normal(size=(6, 200)).astype(np.float32)
    values[:, ::7] = np.round(values[:, ::7])  # values that occur often
    values[1, 3] = np.nan
    values[2, 4] = np.inf if kind == "below" else -np.inf  # never leaves
    return values


def leaves(signal: float, value: float, knob: Knob) -> bool:
    """The comparison of the graphs; NaN goes on."""
    return signal < value if knob.raising == "earlier" else signal >= value


def loop(signals: np.ndarray, values: list[float], knob: Knob) -> list[int]:
    last = len(signals) - 1
    return [
        next((e for e in range(last) if leaves(signals[e, row], values[e], knob)), last)
        for row in range(signals.shape[1])
    ]


@pytest.mark.parametrize("kind", KNOBS)
def test_every_threshold_decides_as_the_loop(kind: str) -> None:
    knob, signals = KNOBS[kind], signals_of(kind)
    turned = turn_signals(signals, knob)
    tried = thresholds_to_try(turned, knob)
    assert len(tried) > 3
    for threshold in tried[:: max(1, len(tried) // 60)]:
        value = knob_value(turned, float(threshold))
        assert value != to_float(knob.never)
        expected = loop(signals, [np.float32(value)] * len(signals), knob)
        assert exits_taken(turned, float(threshold)).tolist() == expected


@pytest.mark.parametrize("kind", ["below", "reached"])
def test_a_threshold_for_each_exit_decides_as_the_loop(kind: str) -> None:
    knob, signals = KNOBS[kind], signals_of(kind)
    turned = turn_signals(signals, knob)
    same = RANDOM.random(signals.shape) < 0.9
    family = thresholds_by_share(turned, same)
    assert len(family) > 3
    for thresholds in family:
        values = knob_values(turned, thresholds, knob)
        assert isinstance(values, list)
        expected = loop(signals, [np.float32(value) for value in values], knob)
        assert exits_taken(turned, thresholds).tolist() == expected


def test_thresholds_go_from_late_to_early_exits() -> None:
    turned = turn_signals(signals_of("below"), BELOW)
    costs = np.arange(6.0)[:, None] + np.zeros((6, 200))
    tried = sweep(turned, thresholds_to_try(turned, BELOW), lambda exits: 0.0, costs)
    assert (np.diff(tried.cost) <= 0).all()
    assert tried.cost[0] > tried.cost[-1]


def test_numbers_that_float32_cannot_tell_apart_are_not_parted() -> None:
    near = np.float32(1)
    signals = np.array([[near, np.nextafter(near, np.float32(2)), 5]] * 2, dtype=np.float32)
    turned = turn_signals(signals, BELOW)
    for threshold in thresholds_to_try(turned, BELOW):
        value = [np.float32(knob_value(turned, float(threshold)))] * 2
        assert exits_taken(turned, float(threshold)).tolist() == loop(signals, value, BELOW)

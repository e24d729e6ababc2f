"""The bound holds as often as it says, and costs no more than it must."""

from __future__ import annotations

import math

import numpy as np
import pytest

from effbert.runtime.points.guarantee import earliest_safe, examples_needed, p_value
from effbert.runtime.points.sweep import Signals, exits_taken

RISK, CONFIDENCE = 0.1, 0.9
THRESHOLDS = np.linspace(0.01, 1, 60)


def drawn(random: np.random.Generator, rows: int) -> tuple[Signals, np.ndarray]:
    """Two exits; a row that leaves early is wrong as often as its signal is high."""
    signal = random.random(rows)
    wrong = random.random(rows) < signal**2 / 2
    losses = np.vstack([wrong, np.zeros(rows)]).astype(float)
    raw = signal[None]
    return Signals(raw, raw, sign=1, whole=False), losses


def expected_loss(threshold: float) -> float:
    return threshold**3 / 6


def test_a_chosen_threshold_breaks_the_bound_no_more_often_than_allowed() -> None:
    random = np.random.default_rng(0)
    broken, found = 0, 0
    for _ in range(400):
        signals, losses = drawn(random, 300)
        index = earliest_safe(signals, THRESHOLDS, losses, RISK, CONFIDENCE)
        assert index is not None
        found += index
        broken += expected_loss(THRESHOLDS[index]) > RISK
    allowed = (1 - CONFIDENCE) * 400
    assert broken <= allowed + 2 * math.sqrt(allowed)
    assert expected_loss(THRESHOLDS[found // 400]) > 0.5 * RISK  # not by never leaving early


def test_the_first_unsafe_threshold_ends_the_tests() -> None:
    raw = np.linspace(0, 1, 1000)[None]
    wrong = (raw[0] > 0.2) & (raw[0] < 0.5)
    losses = np.vstack([wrong, np.zeros(1000)]).astype(float)
    index = earliest_safe(Signals(raw, raw, 1, False), THRESHOLDS, losses, 0.05, 0.95)
    assert index is not None
    assert 0.2 < THRESHOLDS[index] < 0.25


def test_too_few_examples_promise_nothing() -> None:
    needed = examples_needed(0.01, 0.95)
    assert needed == 299
    raw, losses = np.full((1, needed), 0.5), np.zeros((2, needed))
    signals = Signals(raw, raw, 1, False)
    assert earliest_safe(signals, [0.9], losses, 0.01, 0.95) == 0
    fewer = signals.of_rows(np.arange(needed - 1))
    assert earliest_safe(fewer, [0.9], losses[:, 1:], 0.01, 0.95) is None
    assert exits_taken(signals, 0.9).max() == 0


@pytest.mark.parametrize("mean", [0.0, 0.02, 0.09])
def test_more_examples_are_stronger_evidence(mean: float) -> None:
    few, many = (p_value(np.full(count, mean), 0.1) for count in (50, 5000))
    assert many < few <= 1
    assert p_value(np.full(50, 0.2), 0.1) == 1

"""Temperatures are found again, and an exit that is too sure is told so."""

from __future__ import annotations

import numpy as np
import pytest

from effbert.runtime.points.reliability import LEAST, MOST, calibrate, fit_temperature, reliability


def drawn(rows: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at temperature `sharpness` says exactly how often labels are right."""
    random = np.random.default_rng(seed)
    honest = random.normal(0, 2, (rows, 4))
    chances = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    truth = (chances.cumsum(1) > random.random((rows, 1))).argmax(1)
    return (sharpness * honest).astype(np.float32), truth


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_that_makes_an_exit_honest_is_found(sharpness: float) -> None:
    logits, truth = drawn(20_000, sharpness)
    found = calibrate(logits, truth)
    assert found.temperature == pytest.approx(sharpness, rel=0.05)
    assert found.after.error < 0.02
    if sharpness != 1.0:
        assert found.before.error > 5 * found.after.error
        assert found.before.surprise > found.after.surprise


def test_the_surprise_is_least_at_the_fitted_temperature() -> None:
    logits, truth = drawn(300, 2.0)
    best = fit_temperature(logits, truth)
    least = reliability(logits / best, truth).surprise
    for other in (0.97 * best, 1.03 * best):
        assert reliability(logits / other, truth).surprise > least


def test_exits_that_are_always_right_or_know_nothing_reach_the_ends() -> None:
    truth = np.array([0, 1] * 50)
    sure = np.eye(2)[truth]
    assert fit_temperature(sure, truth) == pytest.approx(LEAST, rel=1e-3)
    assert fit_temperature(1 - sure, truth) == pytest.approx(MOST, rel=1e-3)


def test_the_error_is_the_distance_of_confidence_and_right_answers() -> None:
    odds = np.log(np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10))
    truth = np.array([0] * 5 + [1] * 5 + [0] * 6 + [1] * 4)
    found = reliability(odds, truth)
    assert [(each.rows, round(each.confidence, 6), each.right) for each in found.bins] == [
        (10, 0.6, 0.6),
        (10, 0.9, 0.5),
    ]
    assert found.error == pytest.approx(0.2)


def test_what_a_temperature_changes_is_told_on_rows_it_was_not_fitted_on() -> None:
    random = np.random.default_rng(1)
    logits, truth = random.normal(0, 1, (12, 8)), random.integers(0, 8, 12)
    fitted = reliability(logits / fit_temperature(logits, truth), truth).surprise
    assert calibrate(logits, truth).after.surprise >= fitted


def test_one_row_is_enough() -> None:
    found = calibrate(np.array([[2.0, 0.0]]), np.array([0]))
    assert found.before.bins == found.after.bins

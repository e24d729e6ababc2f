"""The exits that are kept are the cheapest: brute force finds nothing better."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from effbert.runtime.points.placement import Costs, Placed, place_exits

THRESHOLDS = np.linspace(0.02, 1, 9)


def drawn(exits: int, rows: int, seed: int) -> tuple[np.ndarray, Costs, np.ndarray]:
    """Signals that jump up and down, exits that cost different amounts, rows of many lengths."""
    random = np.random.default_rng(seed)
    depth = np.linspace(1, 0.2, exits)[:, None]
    raw = depth * random.random(rows) + 0.3 * random.random((exits, rows))
    right = (random.random((exits, rows)) > 0.8 * raw * depth).astype(float)
    length = random.uniform(1, 4, rows)
    layers = np.cumsum(random.uniform(0.5, 1.5, exits))[:, None] * length
    each = random.uniform(0.01, 0.6, exits)[:, None] * np.ones(rows)
    return raw[:-1], Costs(layers, each), right


def leaving(raw: np.ndarray, kept: tuple[int, ...], threshold: float) -> np.ndarray:
    """Where each row leaves, as an index into `kept`: one exit after the other."""
    found = np.full(raw.shape[1], len(kept) - 1)
    for index in reversed(range(len(kept) - 1)):
        found[raw[kept[index]] < threshold] = index
    return found


def brute_force(
    raw: np.ndarray, costs: Costs, right: np.ndarray, least: float
) -> tuple[float, set[tuple[int, ...]]]:
    """The least cost, and every choice that has it."""
    last, rows = len(raw), np.arange(raw.shape[1])
    found: dict[tuple[int, ...], float] = {}
    for size in range(last + 1):
        for chosen in combinations(range(last), size):
            kept = (*chosen, last)
            paid = costs.of_kept(np.array(kept))
            for threshold in THRESHOLDS:
                at = leaving(raw, kept, threshold)
                if right[np.array(kept)[at], rows].mean() >= least - 1e-12:
                    cost = paid[at, rows].mean()
                    found[kept] = min(found.get(kept, np.inf), cost)
    best = min(found.values(), default=np.inf)
    return best, {kept for kept, cost in found.items() if cost <= best + 1e-9}


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.1, 1.0])
@pytest.mark.parametrize("exits, rows", [(1, 20), (2, 30), (4, 60), (7, 200), (8, 25)])
def test_the_choice_is_that_of_brute_force(exits: int, rows: int, loss: float) -> None:
    for seed in range(3):
        raw, costs, right = drawn(exits, rows, seed)
        least = right[-1].mean() - loss
        found = place_exits(raw, THRESHOLDS, costs, right, least)
        best, choices = brute_force(raw, costs, right, least)
        assert found is not None
        assert found.cost == pytest.approx(best)
        assert found.kept in choices


def test_twelve_exits_are_placed_as_brute_force_does() -> None:
    raw, costs, right = drawn(12, 80, seed=0)
    found = place_exits(raw, THRESHOLDS, costs, right, right[-1].mean() - 0.02)
    best, choices = brute_force(raw, costs, right, right[-1].mean() - 0.02)
    assert found is not None
    assert found.cost == pytest.approx(best)
    assert found.kept in choices


def test_the_choice_costs_and_answers_what_it_says() -> None:
    raw, costs, right = drawn(9, 300, seed=1)
    least = right[-1].mean() - 0.01
    found = place_exits(raw, THRESHOLDS, costs, right, least)
    assert isinstance(found, Placed)
    kept, rows = np.array(found.kept), np.arange(300)
    at = leaving(raw, found.kept, found.threshold)
    assert costs.of_kept(kept)[at, rows].mean() == pytest.approx(found.cost)
    assert right[kept[at], rows].mean() >= least
    assert kept[-1] == 8


def test_exits_that_cost_more_than_they_save_go() -> None:
    raw = np.full((3, 100), 0.5)
    raw[0, :50] = 0.0  # half of the rows leave at the first exit, none at the others
    layers = np.arange(1.0, 5)[:, None] * np.ones(100)
    right = np.ones((4, 100))
    for exit_cost, kept in ((0.1, (0, 3)), (3.5, (3,))):
        costs = Costs(layers, np.full((4, 100), exit_cost))
        found = place_exits(raw, [0.25], costs, right, 1.0)
        assert found is not None
        assert found.kept == kept


def test_nothing_is_found_where_nothing_keeps_the_quality() -> None:
    raw, costs, right = drawn(4, 30, seed=0)
    assert place_exits(raw, THRESHOLDS, costs, right, 1.01) is None


def test_24_exits_of_a_large_model_are_placed_in_seconds() -> None:
    raw, costs, right = drawn(24, 2000, seed=0)
    raw = np.minimum.accumulate(raw, axis=0)  # as signals fall in a trained model, but for noise
    raw += 0.02 * np.random.default_rng(0).random(raw.shape)
    found = place_exits(raw, np.linspace(0.05, 0.6, 12), costs, right, right[-1].mean() - 0.01)
    assert found is not None
    assert 1 < len(found.kept) < 24

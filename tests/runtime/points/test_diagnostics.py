"""Diagnostics of exits, on answers that can be counted by hand."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from effbert.runtime.points.diagnostics import (
    Overthinking,
    agreement,
    difficulty_inversion_score,
    group_rows,
    length_groups,
    oracle_exits,
    overthinking,
)

RIGHT = np.array(
    [  # rows: easy, late, overthought, never, lucky
        [1, 0, 1, 0, 1],
        [1, 0, 1, 0, 0],
        [1, 1, 0, 0, 1],
    ],
    dtype=float,
)


def test_the_oracle_leaves_at_the_earliest_right_exit() -> None:
    assert oracle_exits(RIGHT).tolist() == [0, 2, 0, 0, 0]


def test_no_rule_is_better_and_cheaper_than_the_oracle() -> None:
    random = np.random.default_rng(0)
    right = (random.random((5, 200)) < 0.7).astype(float)
    best, rows = oracle_exits(right), np.arange(200)
    for _ in range(50):
        exits = random.integers(0, 5, 200)
        assert right[exits, rows].mean() <= right[best, rows].mean()
    assert right[best, rows].mean() == right.max(0).mean()


def test_of_graded_answers_the_earliest_best_one_counts() -> None:
    assert oracle_exits(np.array([[0.5], [0.8], [0.8]])).tolist() == [1]


def test_overthinking_is_counted_where_layers_are_wasted_and_where_they_harm() -> None:
    assert overthinking(RIGHT) == Overthinking(wasteful=2 / 5, destructive=1 / 5)
    assert overthinking(RIGHT[-1:]) == Overthinking(0, 0)


@pytest.mark.parametrize(
    "signal, score",
    [
        ([0.1, 0.2, 0.3, 0.4], 1.0),
        ([0.4, 0.3, 0.2, 0.1], 0.0),
        ([0.1, 0.3, 0.2, 0.4], 0.75),
        ([0.5, 0.5, 0.5, 0.5], 0.5),
        ([0.1, 0.2, 0.3, np.inf], 1.0),  # NaN never leaves
    ],
)
def test_the_inversion_score_is_the_share_of_pairs_in_order(
    signal: list[float], score: float
) -> None:
    right = np.array([1.0, 1.0, 0.0, 0.0])
    assert difficulty_inversion_score(np.array(signal), right) == score


def test_the_inversion_score_of_many_rows_is_that_of_all_pairs() -> None:
    random = np.random.default_rng(0)
    signal, right = random.integers(0, 20, 150).astype(float), (random.random(150) < 0.6) * 1.0
    pairs = [
        1.0 if good < bad else 0.5 if good == bad else 0.0
        for good in signal[right == 1]
        for bad in signal[right == 0]
    ]
    assert difficulty_inversion_score(signal, right) == pytest.approx(np.mean(pairs))


def test_without_wrong_rows_there_is_no_order() -> None:
    assert difficulty_inversion_score(np.arange(3.0), np.ones(3)) is None


def test_exits_agree_with_themselves_and_mutually() -> None:
    found = agreement(np.array([[0, 1, 2, 2], [0, 1, 1, 2], [0, 0, 1, 2]]))
    assert found.tolist() == [[1, 0.75, 0.5], [0.75, 1, 0.75], [0.5, 0.75, 1]]


def test_groups_say_where_their_rows_leave_and_how_well() -> None:
    number = np.array([0, 0, 1, 1, 1])
    exits = [np.full(5, 2), np.array([0, 1, 0, 0, 1])]
    layers = np.array([2, 4, 6])
    first, second = group_rows(["a", "b", "unseen"], number, exits, layers, RIGHT)
    assert astuple(first) == ("a", 2, [6.0, 3.0], [1.0, 0.5])
    assert astuple(second) == ("b", 3, [6.0, pytest.approx(8 / 3)], [pytest.approx(1 / 3)] * 2)


def test_lengths_are_parted_into_groups_of_about_the_same_size() -> None:
    names, number = length_groups(np.arange(3, 103))
    assert names == ["3 to 28 tokens", "29 to 53 tokens", "54 to 78 tokens", "79 to 102 tokens"]
    assert np.bincount(number).tolist() == [26, 25, 25, 24]
    names, number = length_groups(np.array([7, 7, 7, 7, 7, 9]))
    assert names == ["7 tokens", "9 tokens"]
    assert number.tolist() == [0, 0, 0, 0, 0, 1]

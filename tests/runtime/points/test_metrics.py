"""Qualities are those that people know by their names."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from effbert.runtime.points.grading import entities, shared_words
from effbert.runtime.points.metrics import METRICS, at_exits

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.integers(0, 2, 300)
PREDICTED = np.where(RANDOM.random(300) < 0.7, TRUTH, 1 - TRUTH)
LABELS = {"predicted": PREDICTED, "truth": TRUTH}
NUMBERS = {"truth": RANDOM.normal(size=300), "values": RANDOM.normal(size=300).round(1)}


def test_f1_and_matthews_are_those_of_the_confusion_table() -> None:
    hit = ((PREDICTED == 1) & (TRUTH == 1)).sum()
    assert METRICS["f1"].of(LABELS) == pytest.approx(2 * hit / (PREDICTED.sum() + TRUTH.sum()))
    assert METRICS["matthews"].of(LABELS) == pytest.approx(np.corrcoef(PREDICTED, TRUTH)[0, 1])
    assert METRICS["accuracy"].of(LABELS) == (PREDICTED == TRUTH).mean()


def test_f1_of_several_classes_is_their_mean() -> None:
    facts = {"predicted": np.array([0, 1, 2, 2]), "truth": np.array([0, 1, 1, 2])}
    assert METRICS["f1"].of(facts) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_a_model_that_always_says_the_same_has_no_correlation() -> None:
    constant = {"predicted": np.zeros(4, dtype=int), "truth": np.array([0, 1, 0, 1])}
    assert METRICS["matthews"].of(constant) == 0
    flat = {"values": np.ones(4), "truth": np.arange(4.0)}
    assert METRICS["pearson"].of(flat) == METRICS["spearman"].of(flat) == 0


def test_correlations_are_those_of_scipy() -> None:
    values, truth = NUMBERS["values"], NUMBERS["truth"]
    assert METRICS["pearson"].of(NUMBERS) == pytest.approx(stats.pearsonr(values, truth)[0])
    assert METRICS["spearman"].of(NUMBERS) == pytest.approx(stats.spearmanr(values, truth)[0])
    assert METRICS["negative-mse"].of(NUMBERS) == pytest.approx(-((values - truth) ** 2).mean())


def test_micro_f1_adds_counts_up() -> None:
    counts = np.array([[1, 2, 2], [0, 0, 1], [2, 2, 2]])
    assert METRICS["micro-f1"].of({"counts": counts}) == pytest.approx(2 * 3 / (4 + 5))


@pytest.mark.parametrize(
    "labels, found",
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
        ("I-PER I-PER B-PER", [("PER", 0, 1), ("PER", 2, 2)]),  # IOB
        ("B-PER I-LOC I-LOC", [("PER", 0, 0), ("LOC", 1, 2)]),
        ("O O", []),
    ],
)
def test_entities_are_those_of_seqeval(labels: str, found: list[tuple[str, int, int]]) -> None:
    assert entities(labels.split()) == found


@pytest.mark.parametrize(
    "answer, right, score",
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0),
        ("in Paris", "Paris", 2 / 3),
        ("", "", 1.0),
        ("", "Paris", 0.0),
        ("a a b", "a b b", 2 / 3),  # "a" is an article
    ],
)
def test_answers_share_words_as_squad_counts_them(answer: str, right: str, score: float) -> None:
    assert shared_words(answer, right) == pytest.approx(score)


def test_facts_are_taken_where_rows_leave() -> None:
    facts = {"predicted": np.array([[0, 1, 2], [3, 4, 5]]), "truth": np.array([7, 8, 9])}
    taken = at_exits(facts, np.array([1, 0, 1]))
    assert taken["predicted"].tolist() == [3, 1, 5]
    assert taken["truth"].tolist() == [7, 8, 9]

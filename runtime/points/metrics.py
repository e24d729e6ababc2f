"""Qualities of answers: each is a number made of the facts of the rows at the exits they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from effbert.runtime.errors import InputError
from effbert.runtime.points.grading import OF_EXITS, Facts


class Metric(NamedTuple):
    """A quality, from 0 or -1 to 1 if `share`; otherwise a larger number is better all the same.

    Attributes:
        name: As people call it.
        of: Facts of rows, without the axis of the exits -> the quality.
        needs: A fact that it is made of.
        share: Whether it is shown in percent.
    """

    name: str
    of: Callable[[Facts], float]
    needs: str
    share: bool = True


def at_exits(facts: Facts, exits: np.ndarray) -> Facts:
    """Take the facts of each row at the exit where it leaves.

    Args:
        facts: As `grading.grade` makes them.
        exits: int64 [rows].
    """
    rows = np.arange(len(exits))
    return {
        name: value[exits, rows] if name in OF_EXITS else value for name, value in facts.items()
    }


def _accuracy(facts: Facts) -> float:
    return float((facts["predicted"] == facts["truth"]).mean())


def _agreement(facts: Facts) -> float:
    return float(facts["same"].mean())


def _confusion(facts: Facts) -> np.ndarray:
    classes = 1 + int(max(facts["predicted"].max(), facts["truth"].max()))
    pairs = facts["truth"] * classes + facts["predicted"]
    counts = np.bincount(pairs, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(float)


def _f1(facts: Facts) -> float:
    """F1 of the second of two classes; of more classes the mean over those that occur."""
    table = _confusion(facts)
    both = table.sum(0) + table.sum(1)
    each = np.divide(2 * np.diag(table), both, out=np.zeros(len(table)), where=both > 0)
    return float(each[1] if len(table) == 2 else each[both > 0].mean())


def _matthews(facts: Facts) -> float:
    table = _confusion(facts)
    rows, columns, total = table.sum(1), table.sum(0), table.sum()
    covered = (total**2 - (columns**2).sum()) * (total**2 - (rows**2).sum())
    gained = np.trace(table) * total - (rows * columns).sum()
    return float(gained / np.sqrt(covered)) if covered > 0 else 0.0


def _micro_f1(facts: Facts) -> float:
    right, answered, asked = facts["counts"].sum(0).tolist()
    return 2 * right / (answered + asked) if answered + asked else 1.0


def _pearson(facts: Facts) -> float:
    return _correlation(facts["values"].astype(np.float64), facts["truth"])


def _spearman(facts: Facts) -> float:
    return _correlation(_ranks(facts["values"]), _ranks(facts["truth"]))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    spread = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / spread) if spread > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse]


def _negative_error(facts: Facts) -> float:
    return -float(((facts["values"] - facts["truth"]) ** 2).mean())


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _accuracy, "predicted"),
        Metric("f1", _f1, "predicted"),
        Metric("matthews", _matthews, "predicted"),
        Metric("micro-f1", _micro_f1, "counts"),
        Metric("pearson", _pearson, "values"),
        Metric("spearman", _spearman, "values"),
        Metric("negative-mse", _negative_error, "values", share=False),
        Metric("answer-f1", lambda facts: float(facts["scores"].mean()), "scores"),
        Metric("exact-match", lambda facts: float(facts["exact"].mean()), "exact"),
        Metric("agreement", _agreement, "same"),
    )
}
USUAL = {"predicted": "accuracy", "counts": "micro-f1", "values": "pearson", "scores": "answer-f1"}


def choose_metric(asked: str | None, facts: Facts, labelled: bool) -> Metric:
    """Find the metric to tune for.

    Args:
        asked: Its name; None for the usual one of the task.
        facts: What is known of the rows.
        labelled: Whether the data says what is right; without, only agreement means something.

    Raises:
        InputError: The metric does not fit the task or the data.
    """
    if not labelled and asked not in (None, "agreement"):
        raise InputError(
            f"--metric {asked} needs labels, and the data has no column of them; name it with "
            "--label COLUMN, or leave --metric out to compare with full depth."
        )
    if not labelled:
        return METRICS["agreement"]
    name = asked or next(USUAL[fact] for fact in USUAL if fact in facts)
    if METRICS[name].needs not in facts:
        fitting = [each for each in METRICS if METRICS[each].needs in facts]
        raise InputError(f"--metric {name} does not fit this task; choose {', '.join(fitting)}.")
    return METRICS[name]


def spell_quality(metric: Metric, value: float) -> str:
    """Write a quality for people, such as "96.2 %"."""
    return f"{100 * value:.1f} %" if metric.share else f"{value:.4g}"


def row_losses(facts: Facts, labelled: bool) -> np.ndarray:
    """Tell how much worse than at full depth rows are answered, float64 [exits, rows], 0 to 1.

    Where a row's answer is right or wrong, or partly right, it is what is lost of that; without
    labels, and for sets of labels and words, it is whether the answer is another one.

    Raises:
        InputError: The model answers numbers, which have no largest loss.
    """
    if "values" in facts:
        raise InputError(
            "--guarantee needs answers that can be wrong; this model predicts numbers."
        )
    right = right_answers(facts, labelled)
    return np.asarray(np.maximum(0.0, right[-1] - right))


def right_answers(facts: Facts, labelled: bool) -> np.ndarray:
    """Tell how right rows are answered at every exit, float64 [exits, rows], 0 to 1.

    That is whether the label is right, or the score of an answer; without labels, and for sets of
    labels, words and numbers, whether the answer is that of full depth.
    """
    if labelled and "predicted" in facts:
        return np.asarray((facts["predicted"] == facts["truth"]).astype(float))
    if labelled and "scores" in facts:
        return np.asarray(facts["scores"].astype(float))
    return np.asarray(facts["same"].astype(float))

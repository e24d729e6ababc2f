"""What the exits of a model could save, and where they go wrong.

All functions take what a pass found: arrays of [exits, rows].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHOWN = 4  # groups of lengths


def oracle_exits(right: np.ndarray) -> np.ndarray:
    """Where rows would leave if somebody knew which exit answers them best, int64 [rows].

    That is the earliest exit that is right; rows that none answers rightly leave at the first. No
    exit rule does better with these exits, and none can be expected to do as well (Kaya, Hong,
    Dumitras, "Shallow-Deep Networks", ICML 2019, <https://arxiv.org/abs/1810.07052>).

    Args:
        right: float64 [exits, rows], 0 to 1; of scores between, the earliest best one counts.
    """
    return np.asarray(right.argmax(axis=0))


@dataclass(frozen=True)
class Overthinking:
    """Shares of rows that more layers do not help (Kaya, Hong, Dumitras, ICML 2019).

    Attributes:
        wasteful: Right at full depth, and at an exit before.
        destructive: Wrong at full depth, and right at an exit before.
    """

    wasteful: float
    destructive: float


def overthinking(right: np.ndarray) -> Overthinking:
    """Count rows that an exit before the last answers as well or better than the last.

    Args:
        right: float64 [exits, rows], 0 to 1.
    """
    before = right[:-1].max(axis=0, initial=0.0)
    wasteful = (right[-1] > 0) & (before >= right[-1])
    return Overthinking(float(wasteful.mean()), float((before > right[-1]).mean()))


def difficulty_inversion_score(signal: np.ndarray, right: np.ndarray) -> float | None:
    """Tell how well an exit's signal orders rows by difficulty, from 0 to 1; a coin gives 0.5.

    The Difficulty Inversion Score of CascadeBERT (Li et al., Findings of EMNLP 2021,
    <https://arxiv.org/abs/2012.14682>) is the share of pairs of rows that the signal puts into the
    order of their difficulty. Here a row is difficult if this exit answers it wrongly: of a wrong
    and a right row, the right one must be the surer one. Ties count half.

    Args:
        signal: float64 [rows], turned so that smaller is surer.
        right: float64 [rows], 0 to 1; a row is right from 0.5 on.

    Returns:
        None if all rows are right, or all wrong.
    """
    good = right >= 0.5
    pairs = int(good.sum()) * int((~good).sum())
    if not pairs:
        return None
    wrong = np.sort(signal[~good])
    below = np.searchsorted(wrong, signal[good], side="left")
    upto = np.searchsorted(wrong, signal[good], side="right")
    ordered = (len(wrong) - upto).sum() + (upto - below).sum() / 2
    return float(ordered / pairs)


def agreement(predicted: np.ndarray) -> np.ndarray:
    """Share of rows that two exits answer alike, float64 [exits, exits].

    Args:
        predicted: int64 [exits, rows].
    """
    return np.array([(predicted == each).mean(axis=1) for each in predicted])


@dataclass(frozen=True)
class Group:
    """Rows that are alike in something.

    Attributes:
        name: What they share.
        rows: How many.
        layers: For each operating point, the mean layer at which they leave.
        right: For each operating point, the share that is answered rightly.
    """

    name: str
    rows: int
    layers: list[float]
    right: list[float]


def group_rows(
    names: Sequence[str],
    number: np.ndarray,
    exits: Sequence[np.ndarray],
    layers: np.ndarray,
    right: np.ndarray,
) -> list[Group]:
    """Tell where rows of each group leave, and how well they are answered there.

    Args:
        names: Of the groups.
        number: int64 [rows], the group of each row.
        exits: For each operating point, int64 [rows], where rows leave.
        layers: int64 [exits], the layer of each exit.
        right: float64 [exits, rows].
    """
    rows = np.arange(right.shape[1])
    found = []
    for index, name in enumerate(names):
        here = number == index
        if here.any():
            found.append(
                Group(
                    name,
                    int(here.sum()),
                    [float(layers[each[here]].mean()) for each in exits],
                    [float(right[each[here], rows[here]].mean()) for each in exits],
                )
            )
    return found


def length_groups(tokens: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Part rows into up to four groups of similar length, about equally large.

    Args:
        tokens: int64 [rows].

    Returns:
        Names such as "5 to 9 tokens", and int64 [rows], the group of each row.
    """
    ends = np.unique(np.quantile(tokens, np.linspace(0, 1, SHOWN + 1)[1:], method="higher"))
    number = np.searchsorted(ends, tokens)
    names = []
    for index in range(len(ends)):
        inside = tokens[number == index]
        low, high = int(inside.min()), int(inside.max())
        names.append(f"{low} tokens" if low == high else f"{low} to {high} tokens")
    return names, number

"""From what a user wants to a threshold: the earliest that keeps it with a margin for chance.

Thresholds are tried from late to early, up to the first that breaks the target: a lucky one behind
it is not trusted. What a threshold loses must be below the target by `MARGIN` standard errors, as
they are found from the means of `PARTS` parts of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from effbert.runtime.points.sweep import Signals, Tried, exits_taken, sweep

PARTS = 20
MARGIN = 0.8  # 1.96 (sqrt 2 - 1): as many rows elsewhere then lose no more, within their own 95 %
COARSE = 100  # thresholds that are tried before those between two of them
Kind = Literal["loss", "quality", "speedup", "latency"]


@dataclass(frozen=True)
class Target:
    """What an operating point is chosen for.

    Attributes:
        kind: "loss" (quality lost against full depth), "quality" (kept), "speedup" (times), or
            "latency" (milliseconds a text).
        value: How much.
        name: Of the operating point.
    """

    kind: Kind
    value: float
    name: str

    def kept(self, tried: Tried, full_quality: float, full_cost: float) -> np.ndarray:
        """Which thresholds keep it, bool [thresholds]; costs are milliseconds."""
        if self.kind == "loss":
            return tried.quality >= full_quality - self.value - 1e-9
        if self.kind == "quality":
            return tried.quality >= self.value - 1e-9
        if self.kind == "speedup":
            return tried.cost <= full_cost / self.value
        return tried.cost <= self.value

    @property
    def bounds_cost(self) -> bool:
        """Whether cost is what must be kept, and quality what is left to win."""
        return self.kind in ("speedup", "latency")


@dataclass(frozen=True)
class Rows:
    """Rows to choose on.

    Attributes:
        signals: Of their exits.
        costs: float32 [exits, rows], of a row that leaves at an exit.
        quality: Exits taken, indices of the rows -> the quality.
        indices: Of the rows.
        largest: The same rows with the largest variant, which losses are counted against; None if
            this is it.
    """

    signals: Signals
    costs: np.ndarray
    quality: Callable[[np.ndarray, np.ndarray], float]
    indices: np.ndarray
    largest: Rows | None = None

    def some(self, chosen: np.ndarray) -> Rows:
        """Take some of the rows."""
        return Rows(
            self.signals.of_rows(chosen),
            self.costs[:, chosen],
            self.quality,
            self.indices[chosen],
            self.largest.some(chosen) if self.largest else None,
        )

    def sweep(self, thresholds: Sequence[float | np.ndarray] | np.ndarray) -> Tried:
        """Try thresholds."""
        return sweep(
            self.signals, thresholds, lambda exits: self.quality(exits, self.indices), self.costs
        )

    def deepest(self) -> tuple[float, float]:
        """Quality and cost where no row leaves early."""
        last = np.full(len(self.indices), self.signals.exits - 1)
        return self.quality(last, self.indices), float(self.costs[-1].mean(dtype=np.float64))

    def full(self) -> tuple[float, float]:
        """Quality and cost of the largest variant at full depth."""
        return (self.largest or self).deepest()


def choose(rows: Rows, thresholds: Sequence[float | np.ndarray], target: Target) -> int | None:
    """Find the threshold for a target, by its index; None if only full depth keeps it.

    Args:
        rows: To choose on.
        thresholds: From late to early.
        target: For a bound on the cost, None is returned if no threshold keeps it either.
    """
    if target.bounds_cost:
        kept = np.flatnonzero(target.kept(rows.sweep(thresholds), *rows.full()))
        return int(kept[0]) if len(kept) else None
    return last_kept(
        rows, lambda index: exits_taken(rows.signals, thresholds[index]), len(thresholds), target
    )


def last_kept(
    rows: Rows, exits_of: Callable[[int], np.ndarray], count: int, target: Target
) -> int | None:
    """Find the last of some ways to leave, from late to early, before the first break of a target.

    Args:
        rows: To choose on.
        exits_of: Index of a way -> the exits that the rows take, int64 [rows].
        count: How many ways there are.
        target: A bound on the loss or on the quality.

    Returns:
        Its index; None if the first breaks it.
    """
    last, stop = None, count
    for index in spread_indices(count, COARSE):
        if not surely_kept(rows, exits_of(index), target):
            stop = index
            break
        last = index
    for index in range(0 if last is None else last + 1, stop):
        if not surely_kept(rows, exits_of(index), target):
            break
        last = index
    return last


def spread_indices(count: int, most: int) -> list[int]:
    """Choose up to `most` of the indices below `count` evenly, the first and the last too."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, most))})


def surely_kept(rows: Rows, exits: np.ndarray, target: Target) -> bool:
    """Tell whether a quality is kept with a margin for the chance of the draw.

    Args:
        rows: To look at.
        exits: int64 [rows], where they leave.
        target: A bound on the loss or on the quality.
    """
    missing = _missing(rows, exits, slice(None), target)
    if missing > 1e-9:
        return False
    parts = min(PARTS, len(rows.indices))
    each = [_missing(rows, exits, part, target) for part in parted(len(rows.indices), parts)]
    error = np.std(each) / np.sqrt(max(1, parts - 1))
    return bool(missing + MARGIN * error <= 1e-9)


def parted(count: int, parts: int) -> list[np.ndarray]:
    """Part the positions of rows at random, always in the same way."""
    order = np.random.default_rng(0).permutation(count)
    return [order[part::parts] for part in range(parts)]


def _missing(rows: Rows, exits: np.ndarray, part: Any, target: Target) -> float:
    """How much quality some rows lack to keep the target; negative if they have more."""
    found = rows.quality(exits[part], rows.indices[part])
    if target.kind == "quality":
        return target.value - found
    largest = rows.largest or rows
    last = np.full(len(rows.indices), largest.signals.exits - 1)
    return largest.quality(last[part], largest.indices[part]) - target.value - found

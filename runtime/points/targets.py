"""From what a user wants to a threshold: the earliest that keeps it, on rows it was not chosen on.

Thresholds are tried from late to early, up to the first that breaks the target: a lucky one behind
it is not trusted. Then the choice is repeated without each tenth of the rows; if those tenths lose
more than was asked for, the target is tightened by as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from effbert.runtime.points.sweep import Signals, Tried, exits_taken, sweep

FOLDS = 10
COARSE = 100  # thresholds that folds try
TIGHTENINGS = 3
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
        costs: float64 [exits, rows], milliseconds of a row that leaves at an exit.
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
        return self.quality(last, self.indices), float(self.costs[-1].mean())

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
    coarse = [thresholds[index] for index in spread_indices(len(thresholds), COARSE)]
    folds, strict = _folds(rows), target
    for _ in range(TIGHTENINGS):
        excess = _held_out_excess(folds, coarse, strict, target)
        if excess <= 0:
            break
        strict = _tightened(strict, excess)
    return _last_before_a_break(rows, thresholds, strict)


def spread_indices(count: int, most: int) -> list[int]:
    """Choose up to `most` of the indices below `count` evenly, the first and the last too."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, most))})


def _last_before_a_break(
    rows: Rows, thresholds: Sequence[float | np.ndarray], target: Target
) -> int | None:
    full, last = rows.full(), None
    for index, threshold in enumerate(thresholds):
        if not target.kept(rows.sweep([threshold]), *full).all():
            break
        last = index
    return last


def _folds(rows: Rows) -> list[tuple[Rows, Rows]]:
    """Rows without one part, and that part, for each part."""
    parts = min(FOLDS, len(rows.indices))
    if parts < 2:
        return []
    part_of = np.random.default_rng(0).permutation(len(rows.indices)) % parts
    return [
        (rows.some(np.flatnonzero(part_of != part)), rows.some(np.flatnonzero(part_of == part)))
        for part in range(parts)
    ]


def _held_out_excess(
    folds: Sequence[tuple[Rows, Rows]],
    thresholds: Sequence[float | np.ndarray],
    strict: Target,
    target: Target,
) -> float:
    """How much more than the target is lost on the parts that a choice has not seen.

    Less than one standard error of the parts' mean counts as nothing.
    """
    lost = []
    for seen, held_out in folds:
        index = _last_before_a_break(seen, thresholds, strict)
        full = held_out.full()[0]
        found = full
        if index is not None:
            exits = exits_taken(held_out.signals, thresholds[index])
            found = held_out.quality(exits, held_out.indices)
        bound = full - target.value if target.kind == "loss" else target.value
        lost.append(bound - found)
    if not lost:
        return 0.0
    error = np.std(lost) / np.sqrt(len(lost))
    return float(np.mean(lost) - error)


def _tightened(target: Target, excess: float) -> Target:
    value = target.value - excess if target.kind == "loss" else target.value + excess
    return Target(target.kind, max(value, 0.0), target.name)

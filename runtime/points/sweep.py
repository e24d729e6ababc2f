"""Where rows leave at every threshold, computed from the signals of all exits without a model.

A row leaves at the first exit whose signal passes the threshold. With the running best of a row's
signals, this is the number of exits whose best has not passed yet: one comparison a threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from effbert.runtime.bundle.manifest import Knob, to_float

MOST = 1000  # thresholds tried


@dataclass(frozen=True)
class Signals:
    """The signals of some rows, turned so that a row leaves where its value is below a threshold.

    Attributes:
        best: float32 [exits - 1, rows], the smallest value up to each exit but the last.
        raw: float32 [exits - 1, rows], the values themselves.
        sign: 1, or -1 where larger signals leave.
        whole: Whether thresholds are whole numbers that a signal must reach.
    """

    best: np.ndarray
    raw: np.ndarray
    sign: int
    whole: bool

    @property
    def exits(self) -> int:
        """How many exits there are, the last one too."""
        return len(self.raw) + 1

    def of_rows(self, rows: np.ndarray) -> Signals:
        """Take some rows."""
        return Signals(self.best[:, rows], self.raw[:, rows], self.sign, self.whole)


def turn_signals(signals: np.ndarray, knob: Knob) -> Signals:
    """Prepare signals for a sweep.

    Args:
        signals: float32 [exits, rows]; NaN never leaves.
        knob: The threshold. Real numbers: signals are below it (raising it leaves earlier) or above
            it. Whole numbers: signals must reach it.
    """
    sign = 1 if knob.raising == "earlier" else -1
    raw = np.float32(sign) * signals[:-1].astype(np.float32)
    raw[np.isnan(raw)] = np.inf
    whole = knob.dtype == "int64"
    return Signals(np.minimum.accumulate(raw, axis=0), raw, sign, whole)


def no_signals(exits: int, rows: int) -> Signals:
    """Signals of rows that never leave early."""
    stays = np.full((exits - 1, rows), np.inf, dtype=np.float32)
    return Signals(stays, stays, sign=1, whole=False)


def exits_taken(signals: Signals, threshold: float | np.ndarray) -> np.ndarray:
    """Where each row leaves, int64 [rows].

    Args:
        signals: Of the rows.
        threshold: In the turned sense; one for all exits, or float64 [exits - 1].
    """
    if isinstance(threshold, np.ndarray):
        leaves = signals.raw < threshold[:, None]
        ends = np.vstack([leaves, np.ones((1, leaves.shape[1]), dtype=bool)])
        return np.asarray(ends.argmax(axis=0))
    return np.asarray((signals.best >= threshold).sum(axis=0))


def thresholds_to_try(signals: Signals, knob: Knob) -> np.ndarray:
    """Thresholds between the values of the signals, from those that leave late to early.

    Real ones lie halfway between neighbours, and where float32 has no number between them none is
    tried, so that the graph decides as the sweep does. Of whole numbers every count is tried that
    some signal reaches.

    Args:
        signals: Of some rows.
        knob: Its range, and the value that never leaves, bound what is tried.
    """
    values = np.unique(signals.best[np.isfinite(signals.best)]).astype(np.float64)
    if len(values) > MOST:
        values = np.unique(values[np.linspace(0, len(values) - 1, MOST).round().astype(int)])
    if signals.whole:
        found = np.unique(np.floor(values)) + 0.5
    else:
        above = np.append(values[1:], values[-1:] + 0.01 * (1 + abs(values[-1:])))
        between = (values + (above - values) / 2).astype(np.float32).astype(np.float64)
        found = between[(values < between) & (between < above)]
    as_knobs = np.array([knob_value(signals, each) for each in found], dtype=np.float64)
    allowed = (as_knobs >= to_float(knob.minimum)) & (as_knobs <= to_float(knob.maximum))
    return np.asarray(found[allowed & (as_knobs != to_float(knob.never))])


def knob_value(signals: Signals, threshold: float) -> float | int:
    """Turn a threshold back into a value of the knob."""
    if signals.whole:
        return round(-threshold + 0.5) if signals.sign < 0 else round(threshold - 0.5)
    return float(np.float32(signals.sign * threshold))


def knob_values(
    signals: Signals, threshold: float | np.ndarray, knob: Knob, spare_last: bool = False
) -> float | int | list[float | int]:
    """As `knob_value`; of several thresholds a list, one an exit, the last never leaving.

    With `spare_last` one threshold becomes such a list too.
    """
    if not isinstance(threshold, np.ndarray):
        if not spare_last:
            return knob_value(signals, threshold)
        threshold = np.full(signals.exits - 1, threshold)
    never = to_float(knob.never)
    each = [never if value == -np.inf else knob_value(signals, value) for value in threshold]
    return [*each, never]


def turned_thresholds(
    signals: Signals, knob: Knob, value: float | Sequence[float]
) -> float | np.ndarray:
    """Turn a value of the knob, or one for each exit, into the sense of the sweep."""
    if isinstance(value, Sequence):
        return np.array([_turned(signals, knob, each) for each in value[: signals.exits - 1]])
    return _turned(signals, knob, value)


def _turned(signals: Signals, knob: Knob, value: float) -> float:
    if float(value) == to_float(knob.never):
        return -np.inf
    return signals.sign * float(value) + (0.5 if signals.whole else 0.0)


@dataclass(frozen=True)
class Tried:
    """Thresholds with what they give on some rows, from late to early.

    Attributes:
        thresholds: One value each, or one an exit each.
        quality: float64.
        cost: float64, the mean over the rows.
    """

    thresholds: Sequence[float | np.ndarray]
    quality: np.ndarray
    cost: np.ndarray


def sweep(
    signals: Signals,
    thresholds: Sequence[float | np.ndarray] | np.ndarray,
    quality: Callable[[np.ndarray], float],
    costs: np.ndarray,
) -> Tried:
    """Try thresholds on rows.

    Args:
        signals: Of the rows.
        thresholds: To try.
        quality: Exits taken, int64 [rows] -> the quality.
        costs: float32 [exits, rows], of a row that leaves at an exit.
    """
    rows = np.arange(costs.shape[1])
    found = []
    for threshold in thresholds:
        exits = exits_taken(signals, threshold)
        found.append((quality(exits), costs[exits, rows].mean(dtype=np.float64)))
    values = np.array(found, dtype=np.float64).reshape(-1, 2)
    return Tried(list(thresholds), values[:, 0], values[:, 1])

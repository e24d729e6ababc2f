"""A threshold for each exit: the exits differ in how much their signals can be trusted.

For a share of allowed differences, each exit gets the earliest threshold at which the rows that
would leave there differ from full depth no more often, with a margin for chance. The share is the
one number that is left to choose. It is chosen by what thresholds do on rows that they were not
fitted on, so that fitting cannot chase the noise of every exit.
"""

from __future__ import annotations

import numpy as np

from effbert.runtime.points.sweep import Signals, exits_taken
from effbert.runtime.points.targets import parted

FOLDS = 5
SHARES = np.concatenate([[0.0], np.geomspace(1e-3, 0.5, 60)])


def thresholds_by_share(signals: Signals, same: np.ndarray) -> list[np.ndarray]:
    """Make the family, from late to early.

    Args:
        signals: Of some rows.
        same: bool [exits, rows], whether an exit's answer is that of full depth.

    Returns:
        float64 [exits - 1] in the turned sense, for each share of `SHARES`; -inf where no row may
        leave.
    """
    family = np.full((len(SHARES), signals.exits - 1), -np.inf)
    for exit_ in range(signals.exits - 1):
        order = np.argsort(signals.raw[exit_], kind="stable")
        values = signals.raw[exit_][order].astype(np.float64)
        count = np.arange(1, len(order) + 1)
        wrong = np.cumsum(~same[exit_][order])
        share = (wrong + 1) / (count + 2)  # with one of each added, few rows prove little
        ends = np.flatnonzero(np.isfinite(values) & (values < np.append(values[1:], np.inf)))
        for index, allowed in enumerate(SHARES):
            good = ends[share[ends] <= allowed]
            if len(good):
                family[index, exit_] = _above(values, int(good[-1]))
    return [*family]


def exits_by_share(signals: Signals, same: np.ndarray) -> np.ndarray:
    """Tell where rows leave by thresholds that were fitted without them.

    Args:
        signals: Of some rows.
        same: As for `thresholds_by_share`.

    Returns:
        int64 [shares, rows], for each share of `SHARES` the exits taken, each fifth of the rows by
        the thresholds of the others.
    """
    count = same.shape[1]
    exits = np.full((len(SHARES), count), signals.exits - 1)
    for part in parted(count, FOLDS) if count >= FOLDS else []:
        rest = np.setdiff1d(np.arange(count), part)
        family = thresholds_by_share(signals.of_rows(rest), same[:, rest])
        some = signals.of_rows(part)
        for index, thresholds in enumerate(family):
            exits[index, part] = exits_taken(some, thresholds)
    return exits


def _above(values: np.ndarray, index: int) -> float:
    """Find a number that float32 has, above a value and below the next."""
    value = float(values[index])
    after = values[index + 1] if index + 1 < len(values) else np.inf
    after = after if np.isfinite(after) else value + 0.01 * (1 + abs(value))
    between = float(np.float32(value + (after - value) / 2))
    if value < between < after:
        return between
    return float(np.nextafter(np.float32(value), np.float32(-np.inf)))

"""Which exits to keep so that rows cost least: an exact search over all choices.

An exit costs its head and a boundary on every row that reaches it, and saves the layers behind it
on the rows that leave there. Exits are decided on one after the other (dynamic programming). What
was kept so far matters to what follows only by the rows that are still running, so of all choices
that leave the same rows running, only those count that nothing beats in both cost and right
answers; and what cannot become cheaper than the best choice known, or right often enough, is
dropped. With n exits there are at most 2^(n - 1) choices to carry on, so for up to 12 exits all of
them are: the search is exact. With more exits it is exact as long as no more than 2,048 choices
are worth carrying on, and else goes on with the most hopeful.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

MOST = 2048  # choices that are carried on from exit to exit
ROOM = 1 << 22  # numbers that a product may hold at a time


class Costs(NamedTuple):
    """What rows cost, both float64 [exits, rows] of one unit.

    Attributes:
        layers: The layers up to each exit, without any exit.
        exits: Each exit alone: its head and its boundary.
    """

    layers: np.ndarray
    exits: np.ndarray

    def of_kept(self, kept: np.ndarray) -> np.ndarray:
        """Cost of rows that leave at each of the kept exits, float64 [kept, rows].

        Args:
            kept: int64 [kept], exits in order.
        """
        return np.asarray(self.layers[kept] + self.exits[kept].cumsum(axis=0))


class Placed(NamedTuple):
    """Kept exits in order, the threshold that they are best with, and the mean cost of a row."""

    kept: tuple[int, ...]
    threshold: float
    cost: float


class _Rows(NamedTuple):
    """Rows summed up by the exits that would let them go, which is all that tells them apart.

    Attributes:
        fires: bool [exits, kinds]; the last exit lets everything go.
        layers, exits, right: float64 [exits, kinds].
    """

    fires: np.ndarray
    layers: np.ndarray
    exits: np.ndarray
    right: np.ndarray


def place_exits(
    raw: np.ndarray, thresholds: Iterable[float], costs: Costs, right: np.ndarray, least: float
) -> Placed | None:
    """Find the exits, and one threshold for all of them, that cost least and keep a quality.

    Args:
        raw: float64 [exits - 1, rows], signals; a row may leave where one is below the threshold.
        thresholds: To try.
        costs: Of the rows.
        right: float64 [exits, rows], how right rows are answered.
        least: The smallest mean of that.

    Returns:
        The choice; the last exit is always kept. None if nothing keeps the quality.
    """
    best, count = None, raw.shape[1]
    for threshold in thresholds:
        rows = _by_kind(raw < threshold, costs, right)
        bound = np.inf if best is None else best.cost * count
        found = _search(rows, least * count - 1e-9, bound)
        if found is not None:
            best = Placed(found[0], float(threshold), found[1] / count)
    return best


def _by_kind(fires: np.ndarray, costs: Costs, right: np.ndarray) -> _Rows:
    packed = np.packbits(fires, axis=0)
    _, first, kind = np.unique(packed, axis=1, return_index=True, return_inverse=True)
    kind = kind.reshape(-1)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(kind, each, len(first)) for each in values])

    last = np.ones((1, len(first)), dtype=bool)
    return _Rows(
        np.vstack([fires[:, first], last]),
        summed(costs.layers),
        summed(costs.exits),
        summed(right),
    )


class _States(NamedTuple):
    """Choices so far: rows still running, what those gone have cost, how right they were.

    Attributes:
        running: bool [states, kinds].
        cost, right: float64 [states].
        kept: int64 [states], a bit for each exit that is kept.
    """

    running: np.ndarray
    cost: np.ndarray
    right: np.ndarray
    kept: np.ndarray

    def some(self, chosen: np.ndarray) -> _States:
        return _States(*(each[chosen] for each in self))


def _search(rows: _Rows, least: float, bound: float) -> tuple[tuple[int, ...], float] | None:
    """Find the cheapest choice below a bound for one threshold, as exits and total cost."""
    exits, kinds = rows.fires.shape
    cheapest, likeliest = _hopes(rows)
    start = np.zeros(1)
    states = _States(np.ones((1, kinds), dtype=bool), start, start, start.astype(np.int64))
    for index in range(exits - 1):
        states = _undominated(_joined(states, _keeping(states, rows, index)))
        more, reached = _totals(states.running, cheapest[index + 1], likeliest[index + 1]).T
        hoped = states.cost + more
        hopeful = np.flatnonzero((hoped < bound) & (states.right + reached >= least))
        if not len(hopeful):
            return None
        states = states.some(hopeful[np.argsort(hoped[hopeful], kind="stable")[:MOST]])
    done = _keeping(states, rows, exits - 1)
    done = done.some((done.right >= least) & (done.cost < bound))
    if not len(done.cost):
        return None
    index = int(done.cost.argmin())
    bits = int(done.kept[index])
    return tuple(each for each in range(exits) if bits >> each & 1), float(done.cost[index])


def _hopes(rows: _Rows) -> tuple[np.ndarray, np.ndarray]:
    """Least cost and most right answers of rows that reach an exit, float64 [exits, kinds]."""
    alone = np.where(rows.fires, rows.layers + rows.exits, np.inf)
    right = np.where(rows.fires, rows.right, -np.inf)
    return (
        np.minimum.accumulate(alone[::-1], axis=0)[::-1],
        np.maximum.accumulate(right[::-1], axis=0)[::-1],
    )


def _keeping(states: _States, rows: _Rows, index: int) -> _States:
    """Keep an exit: all running rows pay for it, some leave."""
    leaving = states.running & rows.fires[index]
    [paid] = _totals(states.running, rows.exits[index]).T
    layers, right = _totals(leaving, rows.layers[index], rows.right[index]).T
    return _States(
        states.running & ~leaving,
        states.cost + paid + layers,
        states.right + right,
        states.kept | 1 << index,
    )


def _totals(chosen: np.ndarray, *values: np.ndarray) -> np.ndarray:
    """Add up values over the chosen kinds, float64 [states, values], in pieces that fit."""
    columns = np.stack(values, axis=1)
    step = max(1, ROOM // chosen.shape[1])
    starts = range(0, len(chosen), step)
    return np.concatenate([chosen[start : start + step] @ columns for start in starts])


def _joined(one: _States, other: _States) -> _States:
    return _States(*(np.concatenate(each) for each in zip(one, other, strict=True)))


def _undominated(states: _States) -> _States:
    """Leave out what another choice with the same running rows beats in cost and right answers."""
    packed = np.packbits(states.running, axis=1)
    _, group = np.unique(packed, axis=0, return_inverse=True)
    order = np.lexsort((-states.right, states.cost, group.reshape(-1)))
    group, right = group.reshape(-1)[order], states.right[order]
    height = group * (1.0 + 2 * np.abs(right).max()) + right
    before = np.append(-np.inf, np.maximum.accumulate(height)[:-1])
    return states.some(order[height > before])

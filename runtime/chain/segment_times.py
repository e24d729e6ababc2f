"""How long the next segments will take, learned from those that ran under a deadline.

A segment of x FLOPs takes about a + b x seconds, times a factor of its own, times the pace of the
machine, which follows each call and so notices soon when others make it busy. Before anything is
known, segments run one by one until the deadline is over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from effbert.runtime.bundle.manifest import Segment
from effbert.runtime.chain.stopping import Deadline

RESERVE = 1.1  # times the expected seconds must be left
KEPT = 0.95  # of the weight of a call after each later one
FARTHEST = 4.0  # times the expected seconds: what a single call may claim
QUICK = 0.2  # how far the pace of the machine follows a call, as a power
SLOW = 0.05  # how far a segment's own factor follows a call
SEPARATE = 1e-4  # less of a spread in FLOPs does not tell a from b


class SegmentTimes:
    """Predicts and learns seconds; threads may use it together, and lose a call to each other."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._flops = [segment.flops for segment in segments]
        self._factors = [1.0] * len(segments)
        self._pace = 1.0
        self._sums = np.zeros(5)
        self._line: tuple[float, float] | None = None

    def fitting(self, first: int, rows: int, length: int, seconds: float) -> int:
        """Tell how many segments from `first` on end within the seconds.

        Args:
            first: Index of a segment.
            rows: That will run.
            length: Their tokens, padding included.
            seconds: That are left; below 0 if none are.

        Returns:
            0 if not even one does; one at a time while nothing is known.
        """
        if seconds <= 0:
            return 0
        if self._line is None:
            return 1
        count = 0
        for each in range(first, len(self._flops)):
            seconds -= RESERVE * self._predicted(each, rows, length)
            if seconds < 0:
                break
            count += 1
        return count

    def learn(self, first: int, last: int, rows: int, length: int, seconds: float) -> None:
        """Take note of what the segments from `first` to `last` took together."""
        several = range(first, last + 1)
        if self._line is not None:
            expected = sum(self._predicted(each, rows, length) for each in several)
            share = min(max(seconds / expected, 1 / FARTHEST), FARTHEST)
            self._pace *= share**QUICK
            self._correct(several, share**SLOW)
            seconds = share * expected / self._pace
        flops = sum(self._work(each, rows, length) * self._factors[each] for each in several)
        calls = sum(self._factors[each] for each in several)
        # Relative to the whole: a times this, plus b times that, should be 1.
        u, v = calls / seconds, flops / seconds
        self._sums = KEPT * self._sums + (u * u, u * v, v * v, u, v)
        self._line = _fitted(*self._sums.tolist())

    def _correct(self, several: range, share: float) -> None:
        """Change the factors of some segments; all together stay 1 on (geometric) average."""
        others = share ** (len(several) / len(self._factors))
        self._factors = [
            factor / others * (share if each in several else 1.0)
            for each, factor in enumerate(self._factors)
        ]

    def _predicted(self, index: int, rows: int, length: int) -> float:
        assert self._line is not None
        a, b = self._line
        return self._pace * self._factors[index] * (a + b * self._work(index, rows, length))

    def _work(self, index: int, rows: int, length: int) -> float:
        constant, linear, quadratic = self._flops[index]
        return max(1.0, rows * (constant + (linear + quadratic * length) * length))


class Pace:
    """One call against its deadline."""

    def __init__(self, times: SegmentTimes, deadline: Deadline) -> None:
        self._times = times
        self._deadline = deadline
        self._started = 0.0
        self._run = 0, 0, 0

    def reach(self, first: int, rows: int, length: int) -> int:
        """Tell how many segments from `first` on may run now; their time counts from here."""
        self._run = first, rows, length
        self._started = time.perf_counter()
        return self._times.fitting(first, rows, length, self._deadline.left())

    def learn(self, last: int) -> None:
        """Take note that the segments up to `last` have run."""
        first, rows, length = self._run
        self._times.learn(first, last, rows, length, time.perf_counter() - self._started)


def _fitted(uu: float, uv: float, vv: float, u: float, v: float) -> tuple[float, float]:
    """Solve for a and b, neither below 0; a is 0 while the calls had much the same FLOPs."""
    determinant = uu * vv - uv * uv
    if determinant > SEPARATE * uu * vv:
        a, b = (u * vv - v * uv) / determinant, (v * uu - u * uv) / determinant
        if a >= 0 and b >= 0:
            return a, b
        if b < 0:
            return u / uu, 0.0
    return 0.0, v / vv

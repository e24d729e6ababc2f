"""Where rows left so far, against where the examples left that an operating point was chosen on."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from effbert.runtime.bundle.manifest import Exits, Manifest
from effbert.runtime.chain.results import Result

DEFAULTS, OTHERS = "default", "other"  # names of calls without a point, and with knobs of their own
LARGEST_Z = 3.29  # two sides of a normal distribution: one false alarm in 1,000
ENOUGH = 5  # rows expected of an exit; exits with fewer are counted with the next
Z_OF_CHI_SQUARE = 3.09  # one side, also one in 1,000


class Sample(NamedTuple):
    """A number for a metrics exporter: its name and labels as Prometheus has them."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class PointStats:
    """What became of the rows of one operating point.

    Attributes:
        layers: Encoder layer -> rows that left there.
        signals: Rows whose signal is a number.
        signal_sum: Of what the exit policy compared where they left.
        signal_squares: The sum of its squares.
        deadline_hits: Rows that a deadline stopped.
        fitted: The same of the examples that the point was chosen on, if the bundle says.
    """

    layers: Mapping[int, int] = field(default_factory=dict)
    signals: int = 0
    signal_sum: float = 0.0
    signal_squares: float = 0.0
    deadline_hits: int = 0
    fitted: Exits | None = None

    @property
    def rows(self) -> int:
        """How many rows there were."""
        return sum(self.layers.values())

    @property
    def mean_layer(self) -> float:
        """The mean exit layer; NaN of no rows."""
        return _mean_layer(self.layers)

    @property
    def mean_signal(self) -> float:
        """The mean of what the exit policy compared where rows left; NaN of no rows."""
        return self.signal_sum / self.signals if self.signals else math.nan

    @property
    def drift(self) -> str | None:
        """Say how these rows differ from the examples; None if chance explains it.

        Layers are compared by a chi-square test, mean signals by Welch's; each is wrong once in a
        thousand times that it is asked. Rows that a deadline stopped make rows differ, too.
        """
        if self.fitted is None or not self.rows:
            return None
        fitted = {int(layer): rows for layer, rows in self.fitted.layers.items()}
        if _layers_differ(self.layers, fitted):
            return (
                f"{self.rows:,} rows leave at layer {self.mean_layer:.2f} on average, the "
                f"{sum(fitted.values()):,} examples of the point at {_mean_layer(fitted):.2f}; "
                "tune again on recent texts."
            )
        if self.fitted.signal is not None and self._signals_differ(*self.fitted.signal):
            return (
                f"the mean signal of {self.signals:,} rows is {self.mean_signal:.4g}, of the "
                f"examples of the point {self.fitted.signal[0]:.4g}; tune again on recent texts."
            )
        return None

    def __sub__(self, earlier: PointStats) -> PointStats:
        return replace(
            self,
            layers={
                layer: rows - earlier.layers.get(layer, 0) for layer, rows in self.layers.items()
            },
            signals=self.signals - earlier.signals,
            signal_sum=self.signal_sum - earlier.signal_sum,
            signal_squares=self.signal_squares - earlier.signal_squares,
            deadline_hits=self.deadline_hits - earlier.deadline_hits,
        )

    def _signals_differ(self, mean: float, deviation: float) -> bool:
        assert self.fitted is not None
        if not self.signals:
            return False
        variance = max(0.0, self.signal_squares / self.signals - self.mean_signal**2)
        examples = max(1, sum(self.fitted.layers.values()))
        error = math.sqrt(variance / self.signals + deviation**2 / examples)
        return abs(self.mean_signal - mean) > LARGEST_Z * error + 1e-6 * abs(mean)


class Stats(dict[str, PointStats]):
    """Name of an operating point -> what became of its rows since the session was opened.

    Calls without a point are under "default", calls with knob values of their own under "other".
    `later - earlier` is what happened between two times that the session was asked.
    """

    def __sub__(self, earlier: Stats) -> Stats:
        nothing = PointStats()
        return Stats((name, each - earlier.get(name, nothing)) for name, each in self.items())

    def samples(self) -> Iterator[Sample]:
        """Give counters and gauges for a metrics exporter."""
        for name, each in self.items():
            point = {"operating_point": name}
            for layer, rows in sorted(each.layers.items()):
                yield Sample("effbert_exits_total", {**point, "layer": str(layer)}, rows)
            yield Sample("effbert_signal_count", point, each.signals)
            yield Sample("effbert_signal_sum", point, each.signal_sum)
            yield Sample("effbert_deadline_hits_total", point, each.deadline_hits)
            if each.fitted is not None:
                yield Sample("effbert_drift", point, float(each.drift is not None))


class ExitCounts:
    """Counts the rows of a session; threads may use it together."""

    def __init__(self, manifest: Manifest) -> None:
        self._fitted = {point.name: point.exits for point in manifest.operating_points}
        self._lock = threading.Lock()
        self._tallies: dict[str, _Tally] = {}

    def add(self, point: str, result: Result, layers: Sequence[int]) -> None:
        """Count the rows of a call.

        Args:
            point: What its knobs come from.
            result: Of the call.
            layers: Of the exits.
        """
        exits = result.exit_counts()
        signal = result.signal
        if len(signal) == 1:  # numpy's machinery costs more than one number
            total = float(signal[0])
            squares, count = total * total, 1
        else:
            finite = signal[np.isfinite(signal)].astype(np.float64)
            total, squares, count = float(finite.sum()), float(finite @ finite), len(finite)
        if not math.isfinite(total):
            total, squares, count = 0.0, 0.0, 0
        hits = result.deadline_hits()
        with self._lock:
            tally = self._tallies.get(point)
            if tally is None:
                tally = self._tallies[point] = _Tally()
            for index, rows in exits:
                tally.layers[layers[index]] += rows
            tally.signals += count
            tally.signal_sum += total
            tally.signal_squares += squares
            tally.deadline_hits += hits

    def stats(self) -> Stats:
        """Return what was counted so far."""
        with self._lock:
            return Stats(
                (
                    name,
                    PointStats(
                        dict(tally.layers),
                        tally.signals,
                        tally.signal_sum,
                        tally.signal_squares,
                        tally.deadline_hits,
                        self._fitted.get(name),
                    ),
                )
                for name, tally in self._tallies.items()
            )


class _Tally:
    def __init__(self) -> None:
        self.layers: Counter[int] = Counter()
        self.signals = self.deadline_hits = 0
        self.signal_sum = self.signal_squares = 0.0


def _mean_layer(layers: Mapping[int, int]) -> float:
    rows = sum(layers.values())
    return sum(layer * count for layer, count in layers.items()) / rows if rows else math.nan


def _layers_differ(found: Mapping[int, int], fitted: Mapping[int, int]) -> bool:
    """Test whether two counts of layers come from one distribution.

    The two-sample chi-square test; its statistic becomes a normal one by the cube root of Wilson
    and Hilferty (1931).
    """
    n, m = sum(found.values()), sum(fitted.values())
    groups = [(0, 0)]
    for layer in sorted(found.keys() | fitted.keys()):
        if _enough(*groups[-1], n, m):
            groups.append((0, 0))
        a, b = groups[-1]
        groups[-1] = a + found.get(layer, 0), b + fitted.get(layer, 0)
    if len(groups) > 1 and not _enough(*groups[-1], n, m):
        (a, b), (c, d) = groups.pop(), groups.pop()
        groups.append((a + c, b + d))
    freedom = len(groups) - 1
    if not n or not m or not freedom:
        return False
    there, here = math.sqrt(m / n), math.sqrt(n / m)
    statistic = sum((there * a - here * b) ** 2 / (a + b) for a, b in groups)
    spread = 2 / (9 * freedom)
    z = (float(np.cbrt(statistic / freedom)) - (1 - spread)) / math.sqrt(spread)
    return z > Z_OF_CHI_SQUARE


def _enough(a: int, b: int, n: int, m: int) -> bool:
    """Whether both sides expect enough rows in a group."""
    return a + b > 0 and min(n, m) * (a + b) / (n + m) >= ENOUGH

"""Times calls of several arms that take turns: a slow spell of the machine hits them all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from effbert.runtime.bench.arms import Arm
from effbert.runtime.bench.workloads import Workload

TURN = 0.2  # seconds of a turn of the first arm, or one pass over the calls if that takes longer


class Measured(NamedTuple):
    """What one arm needed for one workload.

    Attributes:
        engine, point: The arm.
        workload: Name of the workload.
        batch, length: Rows of a call; tokens of a row, None where they differ.
        p50_ms, p95_ms, p99_ms: Milliseconds of a call, over all calls of all turns.
        rows_per_second: In the median turn.
        ratio: Time of a turn, as a share of the first arm's in the same round; median of rounds.
        layers: Mean encoder layer at which rows left.
        exits: Share of rows that left at each exit.
    """

    engine: str
    point: str
    workload: str
    batch: int
    length: int | None
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rows_per_second: float
    ratio: float
    layers: float
    exits: list[float]


def measure(arms: Sequence[Arm], workload: Workload, rounds: int) -> list[Measured]:
    """Measure one workload.

    Args:
        arms: Take turns; the first is what ratios compare with.
        workload: Run completely by every arm before anything is timed.
        rounds: Turns of each arm.
    """
    exits = [_exits(arm, workload) for arm in arms]
    repeats = max(1, round(TURN / _turn(arms[0], workload, 1).sum()))
    times = np.array([[_turn(arm, workload, repeats) for arm in arms] for _ in range(rounds)])
    turns = times.sum(axis=-1)  # [rounds, arms]
    ratios = np.median(turns / turns[:, :1], axis=0)
    speeds = repeats * workload.rows / np.median(turns, axis=0)
    measured = []
    for index, arm in enumerate(arms):
        p50, p95, p99 = np.percentile(1000 * times[:, index], (50, 95, 99)).round(3).tolist()
        measured.append(
            Measured(
                engine=arm.engine,
                point=arm.point,
                workload=workload.name,
                batch=workload.batch,
                length=workload.length,
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                rows_per_second=round(float(speeds[index]), 1),
                ratio=round(float(ratios[index]), 3),
                layers=exits[index][0],
                exits=exits[index][1],
            )
        )
    return measured


def _turn(arm: Arm, workload: Workload, repeats: int) -> np.ndarray:
    """Seconds of each call, after one that wakes threads and caches."""
    arm.session.run(workload.calls[0], arm.knobs)
    clock = [time.perf_counter()]
    for _ in range(repeats):
        for call in workload.calls:
            arm.session.run(call, arm.knobs)
            clock.append(time.perf_counter())
    return np.diff(clock)


def _exits(arm: Arm, workload: Workload) -> tuple[float, list[float]]:
    """Mean layer, and the share of rows that left at each exit."""
    results = [arm.session.run(call, arm.knobs) for call in workload.calls]
    found = np.concatenate([result.exit_index for result in results])
    shares = np.bincount(found, minlength=len(arm.session.exits)) / len(found)
    # Where tokens exit on their own, a row's layer is that of the exit at which the last one left.
    by_exit = np.array([item.layer for item in arm.session.exits])
    layers = [
        result.exit_layer if result.exit_layer.ndim == 1 else by_exit[result.exit_index]
        for result in results
    ]
    return round(float(np.concatenate(layers).mean()), 3), shares.round(4).tolist()

"""What knob values give on labelled texts: the share of right answers, and the cost.

Costs are shares of what the same texts cost at full length without exits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from effbert.runtime.bundle.manifest import to_numbers
from effbert.runtime.chain.knobs import KnobValue
from effbert.runtime.chain.results import Result
from effbert.runtime.points.costs import row_flops, tokens_kept
from effbert.runtime.points.labelled_batches import LabelledBatch
from effbert.runtime.session import Session

COSTS = ("latency", "flops")
ROUNDS = 3
TIMED = 8  # batches whose time is taken; the share of right answers needs all texts, time does not
Knobs = Mapping[str, KnobValue]


class Measured(NamedTuple):
    """Share of right answers, and cost as a share of the full cost."""

    quality: float
    cost: float


def measure(
    session: Session, batches: Sequence[LabelledBatch], knobs: Knobs, full: Knobs, cost: str
) -> Measured:
    """Answer all texts with some knob values.

    Args:
        session: Of the bundle.
        batches: The texts.
        knobs: The values to measure.
        full: The values that cost most.
        cost: "latency": the median of three runs of a batch, each run beside one with `full`, so
            that a machine that gets slower slows both; of eight batches from the shortest texts to
            the longest. "flops": counted, from the manifest.
    """
    timed = {round(index) for index in np.linspace(0, len(batches) - 1, TIMED)}
    right = asked = 0
    costs = np.zeros(2)
    for index, batch in enumerate(batches):
        if cost == "flops":
            result, spent = _counted(session, batch, knobs, full)
        elif index in timed:
            result, spent = _timed(session, batch, knobs, full)
        else:
            result, spent = session.run(batch.inputs, knobs), np.zeros(2)
        right += int((result.logits[batch.indices].argmax(-1) == batch.labels).sum())
        asked += len(batch.labels)
        costs += spent
    return Measured(right / asked, float(costs[0] / costs[1]))


def _timed(
    session: Session, batch: LabelledBatch, knobs: Knobs, full: Knobs
) -> tuple[Result, np.ndarray]:
    """Return a batch's answers, and median seconds with `knobs` and with `full`."""
    seconds = np.zeros((ROUNDS, 2))
    for each in range(ROUNDS):
        started = time.perf_counter()
        session.run(batch.inputs, full)
        between = time.perf_counter()
        result = session.run(batch.inputs, knobs)
        seconds[each] = time.perf_counter() - between, between - started
    return result, np.median(seconds, axis=0)


def _counted(
    session: Session, batch: LabelledBatch, knobs: Knobs, full: Knobs
) -> tuple[Result, np.ndarray]:
    """Return a batch's answers, and FLOPs with `knobs` and with `full`."""
    manifest = session.bundle.manifest
    result = session.run(batch.inputs, knobs)
    kept = None
    if (knob := session.knobs.get("lengths")) is not None and knob.count is not None:
        lengths = knobs.get("lengths", to_numbers(knob.default))
        kept = tokens_kept(batch.tokens, np.resize(lengths, knob.count))
    rows = np.arange(len(batch.tokens))
    spent = row_flops(manifest, kept, batch.tokens)[result.exit_index, rows].sum()
    return result, np.array([spent, row_flops(manifest, None, batch.tokens)[-1].sum()])

"""What a chain executes, and what the uncut graph does on the same inputs, in FLOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arms import Inputs
from effbert.runtime import Session
from effbert.runtime.bench.workloads import Workload
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.points.costs import row_flops, tokens_kept


class Execution(NamedTuple):
    """What a chain did with all rows of a workload.

    Attributes:
        flops: Multiply-adds, counted as two, padding included.
        layers: Mean encoder layer at which rows left.
        exits: Share of rows that left at each exit.
    """

    flops: float
    layers: float
    exits: list[float]


def executions(
    engine: str,
    points: Mapping[str, Mapping[str, Any]],
    bundle: Path,
    workloads: Sequence[Workload],
) -> dict[tuple[str, str], Execution]:
    """Runs every workload once at every point: (workload, point) -> what was executed."""
    with Session(bundle, engine) as session:
        return {
            (workload.name, point): _execution(session, knobs, workload.calls)
            for workload in workloads
            for point, knobs in points.items()
        }


def _execution(session: Session, knobs: Mapping[str, Any], calls: Sequence[Inputs]) -> Execution:
    manifest, lengths = session.bundle.manifest, knobs.get("lengths")
    results = [session.run(inputs, knobs) for inputs in calls]
    flops = [
        _executed(manifest, lengths, inputs["attention_mask"], result.exit_index)
        for inputs, result in zip(calls, results, strict=True)
    ]
    found = np.concatenate([result.exit_index for result in results])
    layers = np.concatenate([result.exit_layer for result in results])
    shares = np.bincount(found, minlength=len(session.exits)) / len(found)
    return Execution(sum(flops), float(layers.mean()), shares.tolist())


def _executed(
    manifest: Manifest, lengths: Sequence[float] | None, mask: np.ndarray, exits: np.ndarray
) -> float:
    """FLOPs of one call: every segment computes the rows left, as long as the longest of them."""
    total = 0.0
    for place in range(exits.max() + 1):
        running = exits >= place
        longest = mask[running].sum(axis=1).max(keepdims=True)
        kept = None if lengths is None else tokens_kept(longest, np.array(lengths))
        until = np.append(0, row_flops(manifest, kept, longest)[:, 0])
        total += running.sum() * (until[place + 1] - until[place])
    return float(total)


def uncut_flops(manifest: Manifest, calls: Sequence[Inputs]) -> float:
    """FLOPs of all layers and the main head on the calls as they are.

    Args:
        manifest: Of a bundle with several exits, whose first segment computes whole layers and a
            head as large as the main one; the last one computes less than the uncut graph does.
        calls: Inputs, padding included.
    """
    first, layers = manifest.segments[0], manifest.segments[-1].layer
    head, linear, quadratic = first.flops
    whole = layers / first.layer
    shapes = [inputs["attention_mask"].shape for inputs in calls]
    return float(sum(r * (head + whole * (linear * n + quadratic * n * n)) for r, n in shapes))

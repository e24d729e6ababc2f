"""Thresholds worth trying: where the signals of the exits lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from effbert.runtime.bundle.manifest import Knob, to_float
from effbert.runtime.points.labelled_batches import LabelledBatch
from effbert.runtime.session import Session

THRESHOLD = "threshold"
LEVELS = 32


def find_thresholds(session: Session, batches: Sequence[LabelledBatch]) -> tuple[float, ...]:
    """Values of the knob `threshold`, from those that exit late to those that exit early.

    For a real number these are quantiles of the signals of all exits but the last, for a patience
    every count.
    """
    knob = session.knobs[THRESHOLD]
    if knob.dtype == "int64":
        return tuple(float(count) for count in range(len(session.exits) - 1, 0, -1))
    signals = np.concatenate([_signals(session, knob, batch) for batch in batches])
    signals = signals[np.isfinite(signals)]
    quantiles = np.quantile(signals, np.linspace(0, 1, LEVELS)) if len(signals) else []
    allowed = np.clip(quantiles, to_float(knob.minimum), to_float(knob.maximum))
    values = sorted({float(f"{value:.4g}") for value in allowed})
    return tuple(values if knob.raising == "earlier" else reversed(values))


def _signals(session: Session, knob: Knob, batch: LabelledBatch) -> np.ndarray:
    """Tell what the exits before the last compare: all rows leave at one, then at the next."""
    never = to_float(knob.never)
    always = to_float(knob.maximum if knob.raising == "earlier" else knob.minimum)
    exits = len(session.exits)
    found = []
    for leaving in range(max(1, exits - 1) if knob.per_exit else 1):
        values = [never] * leaving + [always] * (exits - leaving)
        knobs = {THRESHOLD: values if knob.per_exit else always}
        found.append(session.run(batch.inputs, knobs).signal)
    return np.concatenate(found)

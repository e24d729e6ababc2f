"""What the chain knows of one segment."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from effbert.runtime.bundle.manifest import Manifest, Segment, Tensor
from effbert.runtime.chain.inputs import FEW
from effbert.runtime.errors import NumericalError

Tensors = dict[str, np.ndarray]
Outputs = Mapping[str, np.ndarray]


class Step:
    """A segment: what it reads, what it answers, and what of it is kept."""

    def __init__(self, index: int, segment: Segment, manifest: Manifest):
        self.index = index
        self.layer = segment.layer
        knobs = {knob.name for knob in manifest.knobs}
        self.needs = {item.name for item in segment.inputs if item.name not in knobs}
        self.later: set[str] = set()  # what is read after this step
        self.replaces = set(segment.carries)
        self._answers = [
            (item.name, sequence_axis(item) is not None)
            for item in segment.outputs
            if item.name in manifest.outputs
        ]
        kept = (*manifest.outputs, "signal", "exit_layer")
        self._kept = [item.name for item in segment.outputs if item.name in kept]

    def of_rows(self, out: Outputs, chosen: np.ndarray) -> Tensors:
        """Take what is kept of some rows when they leave."""
        return {name: out[name][chosen] for name in self._kept}

    def check_finite(self, out: Outputs, mask: np.ndarray, rows: np.ndarray) -> None:
        """Raise NumericalError if an answer of a row holds NaN or infinity (padding aside)."""
        for name, has_sequence in self._answers:
            if _sums_to_a_number(out[name]):
                continue
            finite = np.isfinite(out[name])
            if has_sequence and mask.shape == finite.shape[:2]:
                finite |= (mask == 0).reshape(mask.shape + (1,) * (finite.ndim - 2))
            if not finite.all():
                bad = rows[~finite.reshape(len(rows), -1).all(axis=1)].tolist()
                raise NumericalError(
                    bad,
                    f"{name} that are not finite at exit {self.index} (layer {self.layer}); the "
                    "weights or the precision of this bundle are broken.",
                )


def _sums_to_a_number(values: np.ndarray) -> bool:
    """Tell exactly that all values are finite: in float64 no sum of them can overflow."""
    if values.size <= FEW:
        return math.isfinite(sum(values.ravel().tolist()))
    return math.isfinite(values.sum(dtype=np.float64))


def sequence_axis(tensor: Tensor) -> int | None:
    """Which axis of a tensor is the sequence."""
    return tensor.axes.index("sequence") if "sequence" in tensor.axes else None

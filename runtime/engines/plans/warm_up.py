"""Run every profile once when plans are opened: kernels are compiled and chosen at first use."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from effbert.runtime.bundle.knob_values import layer_values
from effbert.runtime.bundle.manifest import Knob, Manifest, to_numbers
from effbert.runtime.bundle.names import MASK, NO_WORD, WORDS
from effbert.runtime.engines.plans.chain import PlanChain
from effbert.runtime.engines.plans.executable import Shape, Signature
from effbert.runtime.engines.protocol import Values
from effbert.runtime.errors import InputError

FILL = {MASK: 1, WORDS: NO_WORD}


def warm_up(manifest: Manifest, signatures: list[Signature], chain: PlanChain) -> None:
    """Run all segments with the usual shapes of each profile.

    Raises:
        EngineError, ResourceError: They do not run.
    """
    knobs = _never(manifest)
    shapes = dict.fromkeys(p[MASK].usual for p in signatures[0].profiles if MASK in p)
    for shape in shapes:
        call = chain.begin()
        try:
            tensors = _start(manifest, shape)
            for index in range(len(manifest.segments)):
                # Later segments may be planned for fewer rows or shorter ones.
                with suppress(InputError):
                    _, _, carried = call.run(index, 1, tensors, knobs)
                    tensors |= carried
        finally:
            call.end()


def _start(manifest: Manifest, shape: Shape) -> dict[str, Any]:
    tensors: dict[str, Any] = {
        item.name: np.full(shape, FILL.get(item.name, 0), np.int64) for item in manifest.inputs
    }
    tensors.setdefault(MASK, np.ones(shape, np.int64))
    extents = dict(zip(("batch", "sequence"), shape, strict=True))
    for state in manifest.states:
        axes = [extents[axis] if isinstance(axis, str) else axis for axis in state.axes]
        tensors[state.name] = np.full(axes, float(state.initial)).astype(state.dtype)
    return tensors


def _never(manifest: Manifest) -> Values:
    """Return the knob values at which no row leaves."""
    values = {knob.name: _array(knob) for knob in manifest.knobs}
    return Values(values for _ in manifest.segments)


def _array(knob: Knob) -> np.ndarray:
    never = to_numbers(knob.never)
    if knob.count is not None:
        return layer_values(knob, [never] * knob.count)
    return np.array(never, knob.dtype)

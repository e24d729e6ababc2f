"""The chain of a bundle's plans: hidden states stay on the device, the host reads who leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import finalize

from numpy import ndarray

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.engines.forks import keep_in_children
from effbert.runtime.engines.plans.device import Device
from effbert.runtime.engines.plans.executable import Executable, Signature
from effbert.runtime.engines.plans.lanes import Lane, Lanes
from effbert.runtime.engines.plans.plan_step import PlanStep
from effbert.runtime.engines.protocol import Carry, Values
from effbert.runtime.errors import EngineError, RunError


class PlanChain:
    """A `RunnableChain` of plans. Each call has a lane of its own, up to `most` at a time."""

    joined = False

    def __init__(
        self,
        manifest: Manifest,
        signatures: Sequence[Signature],
        executables: Sequence[Executable],
        device: Device,
        most: int,
        before_close: Callable[[], None] | None = None,
    ) -> None:
        """Chain plans.

        Args:
            manifest: Of the bundle, or of a variant.
            signatures: Of each plan.
            executables: The loaded plans.
            device: What they run on.
            most: Calls that may compute at the same time.
            before_close: Called before anything is freed.
        """
        keep_in_children(self)
        self.reason = "plans are chained on the device"
        self._steps = _steps(manifest, signatures)
        self._lanes = Lanes(device, executables, most, before_close)
        finalize(self, self._lanes.close)

    def begin(self) -> PlanCall:
        """Begin a call with a lane of its own."""
        return PlanCall(self._steps, self._lanes)


class PlanCall:
    """One call; see `ChainCall`. Its carries are in the lane's buffers until it ends."""

    def __init__(self, steps: Sequence[PlanStep], lanes: Lanes) -> None:
        self._steps = steps
        self._lanes = lanes
        self._lane: Lane | None = lanes.take()

    def end(self) -> None:
        """Give the lane back."""
        if self._lane is not None:
            lane, self._lane = self._lane, None
            self._lanes.give_back(lane)

    def run(
        self,
        first: int,
        most: int,
        tensors: Mapping[str, Any],
        knobs: Values,
        options: Any = None,
    ) -> tuple[int, Mapping[str, ndarray], Mapping[str, Carry]]:
        """Run segments until a row leaves."""
        lane = self._lane
        if lane is None:
            raise RunError("This call has ended; begin another.")
        there = dict(tensors)
        carried: dict[str, Carry] = {}
        for index in range(first, first + most):
            if options is not None and options.terminate:
                raise EngineError(f"{self._steps[index].file} was stopped before it ran.")
            out, made = self._steps[index].run(lane, there, knobs[index])
            there |= made
            carried |= made
            if any(out.fetch_flags()):
                break
        return index, out, carried


def _steps(manifest: Manifest, signatures: Sequence[Signature]) -> list[PlanStep]:
    read: set[str] = set()
    steps = []
    pairs = [*zip(manifest.segments, signatures, strict=True)]
    for index in reversed(range(len(pairs))):
        segment, signature = pairs[index]
        read = (read - set(segment.carries)) | set(signature.data)
        steps.append(PlanStep(index, segment, signature, read))
    return steps[::-1]

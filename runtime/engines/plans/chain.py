"""The chain of a bundle's plans: hidden states stay on the device, the host reads who leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import finalize

import numpy as np
from numpy import ndarray

from effbert.runtime.bundle.manifest import Manifest, Segment
from effbert.runtime.bundle.names import MASK
from effbert.runtime.engines.forks import keep_in_children
from effbert.runtime.engines.plans.answers import Answers
from effbert.runtime.engines.plans.device import Device
from effbert.runtime.engines.plans.executable import WIDTHS, Executable, Feed, Shape, Signature
from effbert.runtime.engines.plans.extents import kept_tokens, rounded_up
from effbert.runtime.engines.plans.fitting import choose_profile
from effbert.runtime.engines.plans.lanes import Lane, Lanes
from effbert.runtime.engines.plans.resident import OnDevice
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

    def __init__(self, steps: Sequence[_Step], lanes: Lanes) -> None:
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


class _Step:
    """A segment: what it reads from where, and what it leaves where."""

    def __init__(self, index: int, segment: Segment, signature: Signature, read: set[str]) -> None:
        self.file = segment.file
        self._index = index
        self._signature = signature
        self._carries = {source: name for name, source in segment.carries.items()}
        self._read = read  # by this segment and those behind it
        self._tokens = {i.name: _axis(i.axes, "tokens") for i in segment.inputs}
        self._sequence = {item.name: _axis(item.axes, "sequence") for item in segment.outputs}

    def run(
        self, lane: Lane, tensors: Mapping[str, Any], knobs: Mapping[str, ndarray]
    ) -> tuple[Answers, dict[str, OnDevice]]:
        """Queue the segment."""
        lane.carries.keep_only(
            value.buffer
            for name, value in tensors.items()
            if name in self._read and isinstance(value, OnDevice)
        )
        batch = len(tensors[MASK])
        feeds = self._feeds(lane, tensors, knobs, _in_order(batch))
        values = self._kept(tensors, knobs)
        shapes = {name: feed.shape for name, feed in feeds.items()}
        shapes |= {name: (int(value),) for name, value in values.items()}
        profile = choose_profile(self.file, self._signature.profiles, shapes)
        context = lane.contexts[self._index]
        found = context.prepare(profile, feeds, values, lane.stream)
        made = {name: self._carry(lane, name, found[name]) for name in self._carries}
        answers = Answers(
            lane,
            {name: shape for name, shape in found.items() if name not in made},
            self._signature.dtypes,
        )
        targets = {name: value.buffer.address for name, value in made.items()}
        context.launch(targets | answers.addresses, lane.stream)
        return answers, {self._carries[name]: value for name, value in made.items()}

    def _feeds(
        self,
        lane: Lane,
        tensors: Mapping[str, Any],
        knobs: Mapping[str, ndarray],
        every: ndarray,
    ) -> dict[str, Feed]:
        """Send what the host has, and say where the rest is."""
        feeds: dict[str, Feed] = {}
        small = {name: knobs[name] for name in self._signature.knobs}
        for name in self._signature.data:
            value = tensors[name]
            rows = every
            if isinstance(value, OnDevice):
                feeds[name] = Feed(value.buffer.address, value.stored)
                rows = value.rows
            else:
                small[name] = value
            if name in self._signature.rows:
                small[self._signature.rows[name]] = rows
        sent = lane.sent.upload(small, lane.stream)
        return feeds | {name: Feed(sent[name], array.shape) for name, array in small.items()}

    def _kept(self, tensors: Mapping[str, Any], knobs: Mapping[str, ndarray]) -> dict[str, ndarray]:
        """Compute the extents that depend on the mask and on a knob."""
        if not self._signature.kept:
            return {}
        mask = tensors[MASK]
        there = None  # tokens that the segment is fed
        for name, axis in self._tokens.items():
            if axis is not None:
                there = tensors[name].shape[axis]
        values = {}
        for name, extent in self._signature.kept.items():
            longest = kept_tokens(mask, knobs[extent.knob], extent)
            most = there or extent.total or mask.shape[1]
            there = longest if extent.exact else rounded_up(longest, most)
            values[name] = np.array(there, np.int64)
        return values

    def _carry(self, lane: Lane, name: str, shape: Shape) -> OnDevice:
        size = math.prod(shape) * WIDTHS[self._signature.dtypes[name]]
        buffer = lane.carries.take(max(size, 1))
        return OnDevice(buffer, shape, _in_order(shape[0]), shape, self._sequence[name])


def _steps(manifest: Manifest, signatures: Sequence[Signature]) -> list[_Step]:
    read: set[str] = set()
    steps = []
    pairs = [*zip(manifest.segments, signatures, strict=True)]
    for index in reversed(range(len(pairs))):
        segment, signature = pairs[index]
        read = (read - set(segment.carries)) | set(signature.data)
        steps.append(_Step(index, segment, signature, read))
    return steps[::-1]


def _axis(axes: Sequence[Any], name: str) -> int | None:
    return axes.index(name) if name in axes else None


def _in_order(count: int) -> ndarray:
    return np.arange(count, dtype=np.int64)

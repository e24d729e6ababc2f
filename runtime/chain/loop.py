"""The loop over the segments: run, keep the rows that stop, go on with the others.

This file is the meaning of a bundle; `docs/bundle.md` says the same in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.bundle.names import MASK
from effbert.runtime.chain.results import ExitOutputs, Result
from effbert.runtime.chain.segment_times import Pace, SegmentTimes
from effbert.runtime.chain.step import Outputs, Step, Tensors, sequence_axis
from effbert.runtime.chain.stopping import Cancel, Deadline
from effbert.runtime.engines.protocol import ChainCall, RunnableChain, Values
from effbert.runtime.errors import NumericalError


class Chain:
    """The segments of a bundle in order."""

    def __init__(self, manifest: Manifest, segments: RunnableChain) -> None:
        self.steps = [
            Step(index, segment, manifest) for index, segment in enumerate(manifest.segments)
        ]
        self.layers = [segment.layer for segment in manifest.segments]
        self._segments: RunnableChain | None = segments
        later: set[str] = {MASK}
        for step in reversed(self.steps):
            step.later = set(later)
            later = (later - step.replaces) | step.needs | {MASK}
        self._times = SegmentTimes(manifest.segments)
        self._states = manifest.states
        self._may_trim = manifest.padding_free
        self._shortest = manifest.limits.min_length
        tensors = [*manifest.inputs, *manifest.states]
        tensors += [item for segment in manifest.segments for item in segment.inputs]
        self._sequence = {item.name: sequence_axis(item) for item in tensors}
        self._sequence[MASK] = 1
        outputs = [item for segment in manifest.segments for item in segment.outputs]
        self._trim_first = self._may_trim and not any(
            sequence_axis(item) is not None
            for item in outputs
            if item.name in (*manifest.outputs, "exit_layer")
        )

    def run(
        self,
        inputs: Tensors,
        rows: np.ndarray,
        knobs: Values,
        result: Result,
        deadline: Deadline,
        cancel: Cancel | None = None,
        options: Any = None,
    ) -> None:
        """Answer the rows; each takes the first exit that fires.

        Args:
            inputs: Name to int64 [rows, sequence].
            rows: Indices of these rows in `result`.
            knobs: Values for each segment.
            result: Filled at `rows`.
            deadline: Before a segment that would miss it, the rows left get the answer of the exit
                just run; the first segment always runs.
            cancel: Checked between segments.
            options: Handed to the engine.

        Raises:
            NumericalError: A row leaves with an answer that is not finite; names the first exit
                with such answers.
        """
        call = self._begin()
        try:
            tensors = self._start(inputs)
            if self._trim_first and not any(inputs[MASK][:, -1].tolist()):
                tensors = self._narrowed(tensors, slice(None), set(tensors))
            index, most, pace = 0, len(self.steps), None
            if not deadline.never:
                pace = Pace(self._times, deadline)
                most = pace.reach(0, *inputs[MASK].shape) or 1
            while True:
                if cancel is not None:
                    cancel.check()
                step, out = self._advance(call, index, most, tensors, knobs, options)
                if pace is not None:
                    pace.learn(step.index)
                done = out["exit"]
                leaving = done.tolist()  # a list: numpy's machinery costs more than these few flags
                index = step.index + 1
                most = len(self.steps) - index
                finished = not most or all(leaving)
                if pace is not None and not finished:
                    most = pace.reach(index, leaving.count(False), tensors[MASK].shape[1])
                if finished or not most:
                    step.check_finite(out, tensors[MASK], rows)
                    result.put(rows, step, out)
                    if not finished:
                        result.deadline_hit[rows[~done]] = True
                    return
                if any(leaving):
                    left = step.of_rows(out, done)
                    step.check_finite(left, tensors[MASK][done], rows[done])
                    result.put(rows[done], step, left)
                    rows = rows[~done]
                    tensors = self._narrowed(tensors, ~done, step.later)
        except NumericalError:
            call.end()
            for _ in self._every_step(inputs, rows, knobs):
                pass
            raise
        finally:
            call.end()

    def run_all(
        self, inputs: Tensors, rows: np.ndarray, knobs: Values, outputs: ExitOutputs
    ) -> None:
        """Run every segment on all rows, whatever the exits say, and keep every answer."""
        for step, out in self._every_step(inputs, rows, knobs):
            outputs.put(rows, step, out)

    def close(self) -> None:
        """Free the segments."""
        self._segments = None

    def _begin(self) -> ChainCall:
        assert self._segments is not None
        return self._segments.begin()

    def _every_step(
        self, inputs: Tensors, rows: np.ndarray, knobs: Values
    ) -> Iterator[tuple[Step, Outputs]]:
        """Run one segment after the other, and yield what it made, which is finite."""
        call = self._begin()
        try:
            tensors = self._start(inputs)
            for index in range(len(self.steps)):
                step, out = self._advance(call, index, 1, tensors, knobs, None)
                step.check_finite(out, tensors[MASK], rows)
                yield step, out
        finally:
            call.end()

    def _advance(
        self,
        call: ChainCall,
        index: int,
        most: int,
        tensors: dict[str, Any],
        knobs: Values,
        options: Any,
    ) -> tuple[Step, Outputs]:
        """Run segments from this index on and move their carries into `tensors`."""
        index, out, carried = call.run(index, most, tensors, knobs, options)
        step = self.steps[index]
        if carried:
            tensors |= {name: carried[name] for name in carried.keys() & step.later}
        return step, out

    def _start(self, inputs: Tensors) -> dict[str, Any]:
        """Collect what the first segment may read; carries that stay on a device come later."""
        tensors: dict[str, Any] = dict(inputs)
        if not self._states:
            return tensors
        rows, length = inputs[MASK].shape
        extents = {"batch": rows, "sequence": length}
        for state in self._states:
            shape = [extents[axis] if isinstance(axis, str) else axis for axis in state.axes]
            tensors[state.name] = np.full(shape, float(state.initial)).astype(state.dtype)
        return tensors

    def _narrowed(
        self, tensors: Mapping[str, Any], keep: np.ndarray | slice, names: set[str]
    ) -> dict[str, Any]:
        """Keep some rows of the named tensors, and drop columns that are padding in all of them."""
        mask = tensors[MASK][keep]
        length = wanted = mask.shape[1]
        if self._may_trim:
            used = np.flatnonzero(mask.any(axis=0))
            wanted = max(int(used[-1]) + 1 if len(used) else 0, self._shortest)
        narrowed = {}
        for name in names:
            value = tensors[name]
            axis = self._sequence[name]
            # A segment that drops tokens leaves tensors of another length; they are no longer
            # column by column what the mask describes.
            if axis is not None and value.shape[axis] != length:
                axis = None
            if not isinstance(value, np.ndarray):
                narrowed[name] = value.narrowed(keep, None if axis is None else wanted)
                continue
            if axis is not None:
                value = value[(slice(None),) * axis + (slice(wanted),)]
            narrowed[name] = np.ascontiguousarray(value[keep])
        return narrowed

"""Segments that an engine runs one at a time, as a chain of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy import ndarray

from effbert.runtime.bundle.manifest import Manifest, Segment
from effbert.runtime.engines.protocol import Runnable, Values


class OneByOne:
    """A `RunnableChain` of loaded segments; every run is that of one."""

    joined = False

    def __init__(self, manifest: Manifest, runnables: Sequence[Runnable], reason: str = "") -> None:
        self.reason = reason
        knobs = {knob.name for knob in manifest.knobs}
        self._steps = [
            _Step(runnable, segment, knobs)
            for runnable, segment in zip(runnables, manifest.segments, strict=True)
        ]

    def begin(self) -> OneByOne:
        """Return the chain itself: calls share nothing."""
        return self

    def end(self) -> None:
        """Do nothing: the arrays that a call made belong to it."""

    def run(
        self,
        first: int,
        most: int,
        tensors: Mapping[str, ndarray],
        knobs: Values,
        options: Any = None,
    ) -> tuple[int, dict[str, ndarray], dict[str, ndarray]]:
        """Run the segment at `first`."""
        step = self._steps[first]
        feeds = {name: tensors[name] for name in step.data}
        for name in step.knobs:
            feeds[name] = knobs[first][name]
        out = step.runnable.run(feeds, options)
        return first, out, {name: out[source] for name, source in step.carries.items()}


class _Step:
    """A segment, its lists of names prepared so that a run does as little as possible."""

    def __init__(self, runnable: Runnable, segment: Segment, knobs: set[str]) -> None:
        self.runnable = runnable
        self.data = [item.name for item in segment.inputs if item.name not in knobs]
        self.knobs = [item.name for item in segment.inputs if item.name in knobs]
        self.carries = segment.carries

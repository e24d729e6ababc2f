"""One segment of a chain: what it reads from where, and what it leaves where.

At batch 1 the device is done with a segment in a fraction of a millisecond, so what follows from
the shapes of a call alone is worked out once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from effbert.runtime.bundle.manifest import Segment
from effbert.runtime.bundle.names import MASK
from effbert.runtime.engines.plans.answers import AnswerLayout, Answers
from effbert.runtime.engines.plans.executable import WIDTHS, Feed, Shape, Signature
from effbert.runtime.engines.plans.extents import kept_tokens, rounded_up
from effbert.runtime.engines.plans.fitting import choose_profile
from effbert.runtime.engines.plans.lanes import Lane
from effbert.runtime.engines.plans.memory_pool import SentLayout
from effbert.runtime.engines.plans.resident import OnDevice

RECENT = 256  # shapes of calls that are kept ready


class _CarryPlan(NamedTuple):
    """A carry that the segment writes: output, carry, bytes, shape, axis of the sequence."""

    source: str
    name: str
    size: int
    shape: Shape
    sequence: int | None


class _Known(NamedTuple):
    """What follows from the shapes of a call."""

    profile: int
    sent: SentLayout
    carries: list[_CarryPlan]
    answers: AnswerLayout


class PlanStep:
    """A segment and its plan.

    Attributes:
        file: Its name.
    """

    def __init__(self, index: int, segment: Segment, signature: Signature, read: set[str]) -> None:
        """Prepare what does not depend on a call.

        Args:
            index: Of the segment.
            segment: As the manifest has it.
            signature: Of its plan.
            read: Data and carries that this segment and those behind it read.
        """
        self.file = segment.file
        self._index = index
        self._signature = signature
        self._replaces = {source: name for name, source in segment.carries.items()}
        self._read = frozenset(read)
        self._tokens = [i.name for i in segment.inputs if "tokens" in i.axes]
        self._axes = {item.name: item.axes for item in (*segment.inputs, *segment.outputs)}
        # Carries that share an input of rows have the same ones.
        self._rows = {rows: carry for carry, rows in signature.rows.items()}
        self._known: dict[tuple[Any, ...], _Known] = {}

    def run(
        self, lane: Lane, tensors: Mapping[str, Any], knobs: Mapping[str, ndarray]
    ) -> tuple[Answers, dict[str, OnDevice]]:
        """Queue the segment; what no segment reads any more may be written over."""
        lane.carries.keep_only(
            [
                value.buffer
                for name, value in tensors.items()
                if type(value) is OnDevice and name in self._read
            ]
        )
        values = [tensors[name] for name in self._signature.data]
        extents = self._extents(tensors, knobs) if self._signature.kept else {}
        key: list[Any] = [tensors[MASK].shape, *extents.values()]
        key += [v.stored if type(v) is OnDevice else (v.shape,) for v in values]
        known = self._known.get(tuple(key))
        small = self._small(tensors, knobs)
        sent = SentLayout(small) if known is None else known.sent
        feeds = lane.sent.upload(sent, small, lane.stream)
        for name, value in zip(self._signature.data, values, strict=True):
            if type(value) is OnDevice:
                feeds[name] = Feed(value.buffer.address, value.stored)
        held = {name: np.array(extent, np.int64) for name, extent in extents.items()}
        context = lane.contexts[self._index]
        if known is None:
            profile = self._profile(feeds, extents)
            found = context.prepare(profile, feeds, held, lane.stream)
            known = self._remembered(tuple(key), profile, sent, found)
        else:
            context.prepare(known.profile, feeds, held, lane.stream)
        made, targets = {}, {}
        for item in known.carries:
            buffer = lane.carries.take(item.size)
            targets[item.source] = buffer.address
            rows = in_order(item.shape[0])
            made[item.name] = OnDevice(buffer, item.shape, rows, item.shape, item.sequence)
        answers = Answers(lane, known.answers)
        context.launch(targets | answers.addresses, lane.stream)
        return answers, made

    def _small(
        self, tensors: Mapping[str, Any], knobs: Mapping[str, ndarray]
    ) -> dict[str, ndarray]:
        """Collect what the host has: knobs, inputs, and the rows of carries that go on."""
        small = {name: knobs[name] for name in self._signature.knobs}
        for name in self._signature.data:
            value = tensors[name]
            if type(value) is not OnDevice:
                small[name] = value
        for name, carry in self._rows.items():
            value = tensors[carry]
            small[name] = value.rows if type(value) is OnDevice else in_order(len(value))
        return small

    def _extents(self, tensors: Mapping[str, Any], knobs: Mapping[str, ndarray]) -> dict[str, int]:
        """Compute the extents that depend on the mask and on a knob."""
        mask = tensors[MASK]
        there = None  # tokens that the segment is fed
        for name in self._tokens:
            there = tensors[name].shape[self._axes[name].index("tokens")]
        extents = {}
        for name, extent in self._signature.kept.items():
            longest = kept_tokens(mask, knobs[extent.knob], extent)
            most = there or extent.total or mask.shape[1]
            there = longest if extent.exact else rounded_up(longest, most)
            extents[name] = there
        return extents

    def _profile(self, feeds: Mapping[str, Feed], extents: Mapping[str, int]) -> int:
        shapes = {name: feed.shape for name, feed in feeds.items()}
        shapes |= {name: (extent,) for name, extent in extents.items()}
        return choose_profile(self.file, self._signature.profiles, shapes)

    def _remembered(
        self, key: tuple[Any, ...], profile: int, sent: SentLayout, found: Mapping[str, Shape]
    ) -> _Known:
        """Keep what follows from these shapes."""
        dtypes = self._signature.dtypes
        carries = [
            _CarryPlan(
                source,
                name,
                max(math.prod(found[source]) * WIDTHS[dtypes[source]], 1),
                found[source],
                _axis(self._axes[source], "sequence"),
            )
            for source, name in self._replaces.items()
        ]
        answers = {name: shape for name, shape in found.items() if name not in self._replaces}
        if len(self._known) >= RECENT:
            self._known.clear()
        known = _Known(profile, sent, carries, AnswerLayout(answers, dtypes))
        self._known[key] = known
        return known


def _axis(axes: Sequence[Any], name: str) -> int | None:
    return axes.index(name) if name in axes else None


@lru_cache(maxsize=64)
def in_order(count: int) -> ndarray:
    """Return the indices of all rows, which is what goes on where none leaves."""
    indices = np.arange(count, dtype=np.int64)
    indices.flags.writeable = False
    return indices

"""What a segment answers: flags at once, the rest when the host looks at it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from numpy import ndarray

from effbert.runtime.engines.plans.executable import WIDTHS, Shape
from effbert.runtime.engines.plans.lanes import Lane
from effbert.runtime.engines.plans.memory_pool import layout

EXIT = "exit"
FEW_BYTES = 1 << 14  # answers that small come along with the flags: a second copy takes longer


class Answers(Mapping[str, ndarray]):
    """The outputs of a segment that are no carries; valid until the next segment runs."""

    def __init__(self, lane: Lane, shapes: Mapping[str, Shape], dtypes: Mapping[str, str]) -> None:
        """Make room for them.

        Args:
            lane: Of the call.
            shapes: Of each output.
            dtypes: Of each output; what numpy calls them.
        """
        self._lane = lane
        self._dtypes = dtypes
        self._shapes = {EXIT: shapes[EXIT], **shapes}  # the flags are first in memory
        self._sizes = {
            name: math.prod(shape) * WIDTHS[dtypes[name]] for name, shape in self._shapes.items()
        }
        self._starts, self._end = layout(self._sizes)
        self._pinned, self._address = lane.answers.reserve(self._end)
        self._there = 0
        self._read: dict[str, ndarray] = {}

    @property
    def addresses(self) -> dict[str, int]:
        """Where the segment writes them."""
        return {name: self._address + start for name, start in self._starts.items()}

    def fetch_flags(self) -> list[bool]:
        """Wait for the segment; return which rows leave."""
        few = self._end <= FEW_BYTES
        self._fetch(self._end if few else self._sizes[EXIT])
        flags: list[bool] = self[EXIT].tolist()
        return flags

    def __getitem__(self, name: str) -> ndarray:
        found = self._read.get(name)
        if found is None:
            start, size = self._starts[name], self._sizes[name]
            if start + size > self._there:
                self._fetch(self._end)
            piece = self._pinned[start : start + size].copy()  # the next segment writes over it
            found = piece.view(self._dtypes[name]).reshape(self._shapes[name])
            self._read[name] = found
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def _fetch(self, end: int) -> None:
        begin, self._there = self._there, end
        if end > begin:
            self._lane.device.download(
                self._pinned[begin:end], self._address + begin, self._lane.stream
            )
        self._lane.device.synchronize(self._lane.stream)

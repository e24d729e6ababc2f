"""What a segment answers: flags at once, the rest when the host looks at it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy import ndarray

from effbert.runtime.engines.plans.executable import WIDTHS, Shape
from effbert.runtime.engines.plans.lanes import Lane
from effbert.runtime.engines.plans.memory_pool import layout

EXIT = "exit"
FEW_BYTES = 1 << 14  # answers that small come along with the flags: a second copy takes longer


class AnswerLayout:
    """Where each answer of a segment lies, the flags first; depends on shapes alone.

    Attributes:
        places: Name -> where it starts, its bytes, dtype and shape.
        end: Bytes of all of them.
        first: Bytes that are fetched with the flags.
    """

    def __init__(self, shapes: Mapping[str, Shape], dtypes: Mapping[str, str]) -> None:
        ordered = {EXIT: shapes[EXIT], **shapes}
        sizes = {name: math.prod(s) * WIDTHS[dtypes[name]] for name, s in ordered.items()}
        starts, self.end = layout(sizes)
        self.places = {
            name: (starts[name], sizes[name], np.dtype(dtypes[name]), tuple(shape))
            for name, shape in ordered.items()
        }
        self.first = self.end if self.end <= FEW_BYTES else sizes[EXIT]


class Answers(Mapping[str, ndarray]):
    """The outputs of a segment that are no carries; valid until the next segment runs."""

    def __init__(self, lane: Lane, places: AnswerLayout) -> None:
        self._lane = lane
        self._layout = places
        self._pinned, self._address = lane.answers.reserve(places.end)
        self._there = 0
        self._read: dict[str, ndarray] = {}

    @property
    def addresses(self) -> dict[str, int]:
        """Where the segment writes them."""
        return {name: self._address + place[0] for name, place in self._layout.places.items()}

    def fetch_flags(self) -> list[bool]:
        """Wait for the segment; return which rows leave."""
        self._fetch(self._layout.first)
        flags: list[bool] = self[EXIT].tolist()
        return flags

    def __getitem__(self, name: str) -> ndarray:
        found = self._read.get(name)
        if found is None:
            start, size, dtype, shape = self._layout.places[name]
            if start + size > self._there:
                self._fetch(self._layout.end)
            piece = self._pinned[start : start + size].copy()  # the next segment writes over it
            found = self._read[name] = piece.view(dtype).reshape(shape)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._layout.places

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout.places)

    def __len__(self) -> int:
        return len(self._layout.places)

    def _fetch(self, end: int) -> None:
        begin, self._there = self._there, end
        if end > begin:
            self._lane.device.download(
                self._pinned[begin:end], self._address + begin, self._lane.stream
            )
        self._lane.device.synchronize(self._lane.stream)

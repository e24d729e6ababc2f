"""Memory that one call uses on the device, kept for the calls after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from numpy import ndarray

from effbert.runtime.engines.plans.device import ALIGNMENT, Device
from effbert.runtime.engines.plans.executable import Feed

RECENT = 256  # shapes whose arrays are kept ready


class Buffer:
    """One piece of memory on the device."""

    __slots__ = ("address", "size")

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size


class Pool:
    """Buffers of carries: each is in use or free.

    A segment reads what the one before wrote and writes something of the same size, so where the
    shapes stay, two buffers take turns. Work on one stream keeps its order, which is why a buffer
    may be written anew as soon as the segment that reads it has been queued.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._free: list[Buffer] = []
        self._used: list[Buffer] = []

    @property
    def count(self) -> int:
        """How many buffers there are."""
        return len(self._free) + len(self._used)

    def take(self, size: int) -> Buffer:
        """Return a buffer of at least this size; nothing else uses it until `keep_only` says so."""
        fitting = [buffer for buffer in self._free if buffer.size >= size]
        if fitting:
            # The same in every call, so that graphs that were captured find their addresses.
            buffer = min(fitting, key=_size_and_address)
            self._free.remove(buffer)
        else:
            # A larger one replaces the largest, else calls that grow would leave one of each size.
            if self._free:
                small = max(self._free, key=_size)
                self._free.remove(small)
                self._device.free(small.address)
            buffer = Buffer(self._device.allocate(size), size)
        self._used.append(buffer)
        return buffer

    def keep_only(self, used: Iterable[Buffer]) -> None:
        """Take back every buffer but these."""
        wanted = {id(buffer) for buffer in used}
        kept = [buffer for buffer in self._used if id(buffer) in wanted]
        self._free += [buffer for buffer in self._used if id(buffer) not in wanted]
        self._used = kept

    def close(self) -> None:
        """Free all of them."""
        for buffer in [*self._free, *self._used]:
            self._device.free(buffer.address)
        self._free, self._used = [], []


def _size(buffer: Buffer) -> int:
    return buffer.size


def _size_and_address(buffer: Buffer) -> tuple[int, int]:
    return buffer.size, buffer.address


class SentLayout:
    """Where small arrays lie that cross together; depends on their shapes alone.

    Attributes:
        places: Name, where it starts, bytes, dtype and shape of each.
        end: Bytes of all of them.
    """

    def __init__(self, arrays: Mapping[str, ndarray]) -> None:
        starts, self.end = layout({name: array.nbytes for name, array in arrays.items()})
        self.places = [
            (name, starts[name], array.nbytes, array.dtype, array.shape)
            for name, array in arrays.items()
        ]


class _Views(NamedTuple):
    """A layout in the memory that there is: arrays in the pinned part, inputs on the device."""

    arrays: list[tuple[str, ndarray]]
    whole: ndarray
    feeds: dict[str, Feed]


class Mirrored:
    """Pinned memory and as much on the device: small arrays cross together, in one copy."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._size = 0
        self._pinned: ndarray | None = None
        self._address = 0
        self._views: dict[SentLayout, _Views] = {}

    def reserve(self, size: int) -> tuple[ndarray, int]:
        """Return pinned memory and an address on the device with room for `size` bytes each."""
        if self._pinned is None or size > self._size:
            self.close()
            grown = aligned(max(size, 2 * self._size))
            self._pinned = self._device.pin(grown)
            self._address = self._device.allocate(grown)
            self._size = grown
        return self._pinned, self._address

    def upload(
        self, places: SentLayout, arrays: Mapping[str, ndarray], stream: int
    ) -> dict[str, Feed]:
        """Begin to copy arrays to the device; what was sent before must have arrived.

        Returns:
            Where each of them is going to be.
        """
        pinned, address = self.reserve(places.end)
        views = self._views.get(places)
        if views is None:
            views = self._viewed(places, pinned, address)
        for name, view in views.arrays:
            view[...] = arrays[name]
        self._device.upload(address, views.whole, stream)
        return views.feeds.copy()

    def _viewed(self, places: SentLayout, pinned: ndarray, address: int) -> _Views:
        arrays, feeds = [], {}
        for name, start, size, dtype, shape in places.places:
            arrays.append((name, pinned[start : start + size].view(dtype).reshape(shape)))
            feeds[name] = Feed(address + start, tuple(shape))
        if len(self._views) >= RECENT:
            self._views.clear()
        views = self._views[places] = _Views(arrays, pinned[: places.end], feeds)
        return views

    def close(self) -> None:
        """Free both."""
        self._views.clear()
        if self._pinned is not None:
            pinned, self._pinned = self._pinned, None
            self._device.unpin(pinned)
        if self._address:
            address, self._address = self._address, 0
            self._device.free(address)


def layout(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Line up pieces of memory: where each starts, and how much all of them take."""
    starts, end = {}, 0
    for name, size in sizes.items():
        starts[name] = end
        end += aligned(size)
    return starts, end


def aligned(size: int) -> int:
    """Round up to the next aligned size, which is never 0."""
    return max(-(-size // ALIGNMENT), 1) * ALIGNMENT

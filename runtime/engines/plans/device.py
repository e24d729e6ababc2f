"""What a chain of plans needs of a GPU: memory, a queue of work, and copies between both sides.

`cuda.py` is the real one; the tests have one in numpy, so the whole chain runs without a GPU.
"""

from __future__ import annotations

from typing import Protocol

from numpy import ndarray

ALIGNMENT = 256  # bytes, of every address that is handed out


class Device(Protocol):
    """One GPU. Work on a stream runs in its order; failures are EngineError or ResourceError."""

    def activate(self) -> None:
        """Let what this thread does next happen on this device."""

    def allocate(self, size: int) -> int:
        """Return the address of new memory on the device, `ALIGNMENT` aligned."""

    def free(self, address: int) -> None:
        """Free what `allocate` returned, once no work uses it."""

    def pin(self, size: int) -> ndarray:
        """Return new memory of the host, uint8, that copies to and from the device may use."""

    def unpin(self, memory: ndarray) -> None:
        """Free what `pin` returned."""

    def open_stream(self) -> int:
        """Return a new stream."""

    def close_stream(self, stream: int) -> None:
        """Free a stream."""

    def upload(self, address: int, source: ndarray, stream: int) -> None:
        """Begin to copy pinned memory to the device; it must stay as it is until that is done."""

    def download(self, target: ndarray, address: int, stream: int) -> None:
        """Begin to copy memory of the device into pinned memory."""

    def synchronize(self, stream: int) -> None:
        """Wait until all work on the stream is done."""

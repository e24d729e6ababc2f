"""Carries that stay on the device: the host knows their shapes and which rows of them go on."""

from __future__ import annotations

from numpy import ndarray

from effbert.runtime.engines.plans.memory_pool import Buffer


class OnDevice:
    """A carry; see `Resident`. What is stored never changes, only what of it goes on.

    Attributes:
        buffer: Where it is.
        stored: The shape of what the segment wrote.
        rows: Indices of the stored rows that go on, int64.
        shape: Of what goes on.
    """

    __slots__ = ("_sequence", "buffer", "rows", "shape", "stored")

    def __init__(
        self,
        buffer: Buffer,
        stored: tuple[int, ...],
        rows: ndarray,
        shape: tuple[int, ...],
        sequence: int | None,
    ) -> None:
        self.buffer = buffer
        self.stored = stored
        self.rows = rows
        self.shape = shape
        self._sequence = sequence

    def narrowed(self, rows: ndarray | slice, columns: int | None) -> OnDevice:
        """Choose rows, and columns of the axis `sequence`; see `Resident`."""
        chosen = self.rows[rows]
        shape = [len(chosen), *self.shape[1:]]
        if columns is not None and self._sequence is not None:
            shape[self._sequence] = columns
        return OnDevice(self.buffer, self.stored, chosen, tuple(shape), self._sequence)

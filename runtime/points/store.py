"""Every evaluated gene in a file of JSON lines, so that an evolution can stop at any moment.

A line counts once its newline is on the disk: what a process that was killed left behind it is cut
off. What the genes were evaluated for is in the name of the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from effbert.runtime.errors import ResourceError
from effbert.runtime.points.evolution import Evaluated
from effbert.runtime.points.genes import Gene
from effbert.runtime.points.stored_points import lock

MAX_BYTES = 1 << 28


class Store:
    """An open store; a second process that opens it waits until the first is done.

    Attributes:
        known: The genes evaluated so far.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it; lines from a damaged one on are dropped.

        Raises:
            ResourceError: It cannot be opened or made.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b", buffering=0)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            lock(self._file.fileno())
            self._file.seek(0)
            self.known, whole = _read(self._file)
            self._file.truncate(whole)
        except BaseException:
            self._file.close()
            raise

    def add(self, item: Evaluated) -> None:
        """Write one gene and wait for the disk.

        Raises:
            ResourceError: It cannot be written.
        """
        data = msgspec.json.encode(item) + b"\n"
        path = Path(self._file.name)
        try:
            written = self._file.write(data)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(path, error) from error
        if written != len(data):
            raise ResourceError(f"{path} cannot be written: the disk is full.")
        self.known[item.gene] = item

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _read(file: BinaryIO) -> tuple[dict[Gene, Evaluated], int]:
    """Read the genes, and tell how many bytes of the file are whole."""
    known: dict[Gene, Evaluated] = {}
    whole = 0
    for line in file.read(MAX_BYTES).splitlines(keepends=True):
        try:
            item = msgspec.json.decode(line, type=Evaluated)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            break
        if not line.endswith(b"\n"):
            break
        known[item.gene] = item
        whole += len(line)
    return known, whole


def _unwritable(path: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"{path} cannot be written: {error.strerror}; what was found is kept beside the bundle."
    )

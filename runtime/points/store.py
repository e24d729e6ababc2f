"""Every evaluated gene in a file of JSON lines, so that a search can be interrupted at any moment.

The first line says what is searched. A line counts once its newline is on the disk: what a process
that was killed left behind it is cut off.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta, Struct

from effbert.runtime.errors import InputError, ResourceError
from effbert.runtime.points.evolution import Evaluated, Settings
from effbert.runtime.points.genes import Gene

MAX_BYTES = 1 << 28


class Task(Struct, frozen=True, forbid_unknown_fields=True):
    """What a store is about; a search is only resumed with the same."""

    bundle: str
    data: str
    over: tuple[str, ...]
    cost: str
    settings: Settings


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """First line: the task, tokens of the longest text, and the thresholds searched."""

    task: Task
    tokens: Annotated[int, Meta(ge=1, le=8192)]
    thresholds: tuple[float, ...]


class Store:
    """An open store.

    Attributes:
        header: Its first line.
        known: The genes evaluated so far.
    """

    def __init__(self, file: BinaryIO, header: Header, known: dict[Gene, Evaluated]) -> None:
        self._file = file
        self.header = header
        self.known = known

    def add(self, item: Evaluated) -> None:
        """Write one gene and wait for the disk.

        Raises:
            ResourceError: It cannot be written.
        """
        _write(self._file, item)
        self.known[item.gene] = item

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def store_exists(path: Path) -> InputError:
    """Return the refusal to start where an earlier search is."""
    return InputError(
        f"{path} holds an earlier search; go on with --resume, delete it, or name another file "
        "with --store."
    )


def create_store(path: Path, header: Header) -> Store:
    """Start a store.

    Raises:
        InputError: The file exists, or cannot be made.
        ResourceError: It cannot be written.
    """
    try:
        file = path.open("xb", buffering=0)
    except FileExistsError:
        raise store_exists(path) from None
    except OSError as error:
        raise InputError(f"{path} cannot be made: {error.strerror}; use --store.") from error
    try:
        _write(file, header)
    except BaseException:
        file.close()
        raise
    return Store(file, header, {})


def resume_store(path: Path, task: Task) -> Store | None:
    """Open a store to go on; None if there is none, or a process died before its first line.

    Raises:
        InputError: It cannot be read, is damaged, or belongs to another search.
    """
    try:
        file = path.open("r+b", buffering=0)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
    try:
        whole = _whole_lines(path, file)
        if not whole:
            file.close()
            path.unlink()
            return None
        header, known = _parsed(path, whole)
        _compare(path, header.task, task)
        file.truncate(len(whole))
        file.seek(0, os.SEEK_END)
    except BaseException:
        file.close()
        raise
    return Store(file, header, known)


def _whole_lines(path: Path, file: BinaryIO) -> bytes:
    if os.fstat(file.fileno()).st_size > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MiB; it is no search.")
    data = file.read()
    return data[: data.rfind(b"\n") + 1]


def _parsed(path: Path, data: bytes) -> tuple[Header, dict[Gene, Evaluated]]:
    first, *lines = data.splitlines()
    known: dict[Gene, Evaluated] = {}
    number = 1
    try:
        header = msgspec.json.decode(first, type=Header)
        for line in lines:
            number += 1
            item = msgspec.json.decode(line, type=Evaluated)
            known[item.gene] = item
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}, line {number} is not what a search writes ({error}); name another file "
            "with --store."
        ) from error
    return header, known


def _compare(path: Path, stored: Task, asked: Task) -> None:
    named = {name: getattr(asked, name) for name in ("bundle", "data", "over", "cost")}
    different = [name for name, value in named.items() if value != getattr(stored, name)]
    different += [
        name
        for name in Settings.__struct_fields__
        if getattr(stored.settings, name) != getattr(asked.settings, name)
    ]
    if different:
        options = ", ".join(name.replace("_", "-") for name in different)
        raise InputError(
            f"{path} is from a search with another {options}; give the same, or name another "
            "file with --store."
        )


def _write(file: BinaryIO, line: Struct) -> None:
    data = msgspec.json.encode(line) + b"\n"
    try:
        written = file.write(data)
        os.fsync(file.fileno())
    except OSError as error:
        raise ResourceError(f"{file.name} cannot be written: {error.strerror}.") from error
    if written != len(data):
        raise ResourceError(f"{file.name} cannot be written: the disk is full.")

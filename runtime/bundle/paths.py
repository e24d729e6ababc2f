"""File names inside a bundle, and the one way to open them.

A name is never a path: one component, ASCII letters, digits, `.`, `_` and `-`. Files are opened
relative to their folder, links are refused, so what is opened lies inside whatever the name says.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from effbert.runtime.errors import BundleError, IntegrityError, PathError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def name_problem(name: str) -> str | None:
    """Says why `name` cannot be the name of a file in a bundle, or None if it can.

    The rule is the same everywhere, so that a bundle written on one system opens on all: what
    Windows reserves (device names, a dot at the end) is refused on Linux too.
    """
    if not _NAME.fullmatch(name):
        return "is not a plain file name of letters, digits, '.', '_' and '-'"
    if ".." in name or name.endswith("."):
        return "has two dots in a row or a dot at its end"
    if _DEVICES.fullmatch(name):
        return "is the name of a device on Windows"
    return None


def open_file(folder: Path, name: str) -> int:
    """Open `folder/name` for reading and return its descriptor, which the caller closes.

    The folder may be reached through a symbolic link, the file may not be one; a file with several
    hard links is refused too, because the other name may lie outside the folder.

    Raises:
        PathError: The name is not allowed, or is not a regular file with a single name.
        IntegrityError: There is no such file.
        BundleError: The system refuses to open it.
    """
    problem = name_problem(name)
    if problem:
        raise PathError(f"The file name {name[:128]!r} {problem}.")
    try:
        descriptor = _open(folder, name)
    except FileNotFoundError:
        raise IntegrityError(f"{name} is missing; copy or export the bundle again.") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise PathError(
                f"{name} is a symbolic link; copy the bundle with its links resolved (cp -rL)."
            ) from None
        raise BundleError(f"{name} cannot be opened: {error.strerror}.") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        raise PathError(f"{name} has several hard links; copy the bundle instead of linking it.")
    raise PathError(f"{name} is not a regular file.")


def _open(folder: Path, name: str) -> int:
    # O_NONBLOCK: opening a named pipe returns at once instead of waiting for a writer.
    flags = os.O_RDONLY
    for flag in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    if os.open not in os.supports_dir_fd:  # Windows
        if (folder / name).is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return os.open(folder / name, flags)
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.open(name, flags, dir_fd=parent)
    finally:
        os.close(parent)

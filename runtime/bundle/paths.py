"""File names inside a bundle, and the one way to open them.

A name is never a path: one component, ASCII letters, digits, `.`, `_` and `-`. Links are followed
by us, one by one, as long as they stay in the folder or in the hub's cache that it belongs to. What
they lead to is opened without following any, so it lies there whatever happens in between.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path, PurePath

from effbert.runtime.errors import BundleError, IntegrityError, PathError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
MOST_LINKS = 40


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

    The folder may be reached through symbolic links. The file may be one that stays in the folder,
    as in a volume of Kubernetes, or, in a snapshot of a hub's cache, in the `blobs` of its model.

    Raises:
        PathError: The name is not allowed, a link leads out, or there is no regular file.
        IntegrityError: There is no such file.
        BundleError: The system refuses to open it.
    """
    problem = name_problem(name)
    if problem:
        raise PathError(f"The file name {name[:128]!r} {problem}.")
    root = Path(os.path.realpath(folder))
    try:
        descriptor = _open(*follow_links(root, name))
    except FileNotFoundError:
        what = "links to a file that is missing" if (root / name).is_symlink() else "is missing"
        raise IntegrityError(f"{name} {what}; copy or export the bundle again.") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise PathError(f"{name} is a symbolic link that leads in a circle.") from None
        raise BundleError(f"{name} cannot be opened: {error.strerror}.") from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise PathError(f"{name} is not a regular file.")


def _places(root: Path) -> list[Path]:
    """List the folders that links of a bundle may lead to: its own, and the blobs of its model."""
    for above in root.parents:
        if above.name == "snapshots" and above.parent.name.startswith("models--"):
            return [root, above.parent / "blobs"]
    return [root]


def follow_links(root: Path, name: str) -> tuple[Path, Path]:
    """Find what a file of a bundle is when all links are followed.

    Args:
        root: Folder of the bundle, without links.
        name: Of the file.

    Returns:
        The folder that it must not leave, and its path in there.

    Raises:
        PathError: A link leads out of the folder and of the cache that it belongs to.
        OSError: Links lead in a circle.
    """
    places, path, links = _places(root), root, 0
    left = [name]
    while left:
        part = left.pop()
        if part == os.pardir:
            path = path.parent
            continue
        step = path / part  # an absolute link starts anew
        if step.is_symlink():
            _place_of(step, places, name)
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            left += reversed(PurePath(os.readlink(step)).parts)
        else:
            path = step
    place = _place_of(path, places, name)
    return place, path.relative_to(place)


def _place_of(path: Path, places: list[Path], name: str) -> Path:
    for place in places:
        if place in path.parents:
            return place
    raise PathError(
        f"{name} is a symbolic link that leads out of the bundle; copy the bundle with its links "
        "resolved (cp -rL)."
    )


def _open(place: Path, path: Path) -> int:
    """Open a path below a folder; no part of it may be a link."""
    # O_NONBLOCK: opening a named pipe returns at once instead of waiting for a writer.
    flags = os.O_RDONLY
    for flag in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    if os.open not in os.supports_dir_fd:  # Windows
        return os.open(place / path, flags)
    folder = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    parent = os.open(place, folder)
    try:
        for part in path.parts[:-1]:
            outer, parent = parent, os.open(part, folder | os.O_NOFOLLOW, dir_fd=parent)
            os.close(outer)
        return os.open(path.name, flags, dir_fd=parent)
    finally:
        os.close(parent)

"""Operating points in the manifest: put there without losing those of another process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from effbert.runtime.bundle.folder import Bundle, open_bundle, replace_manifest
from effbert.runtime.bundle.manifest import OperatingPoint
from effbert.runtime.errors import BundleError


def replace_points(
    folder: Path, points: Sequence[OperatingPoint], outdated: Callable[[str], bool]
) -> Bundle:
    """Put points into the manifest as it is now.

    Args:
        folder: Of the bundle.
        points: Instead of those of the same names.
        outdated: Tells of a name whether that point goes too.

    Raises:
        BundleError: The bundle cannot be read or written.
    """
    names = {point.name for point in points}
    with _alone(folder):
        bundle = open_bundle(folder)
        others = [
            point
            for point in bundle.manifest.operating_points
            if point.name not in names and not outdated(point.name)
        ]
        changed = msgspec.structs.replace(bundle.manifest, operating_points=[*others, *points])
        return replace_manifest(bundle, changed)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other processes that change this manifest; a process that dies lets go."""
    if os.name == "nt":  # a folder cannot be opened; the manifest is still replaced as a whole
        yield
        return
    try:
        opened = os.open(folder.absolute(), os.O_RDONLY)
    except OSError as error:
        raise BundleError(f"{folder} cannot be opened: {error.strerror}.") from error
    try:
        lock(opened)
        yield
    finally:
        os.close(opened)


def lock(opened: int) -> None:
    """Wait until no other process holds this file, and hold it until it is closed."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(opened, fcntl.LOCK_EX)

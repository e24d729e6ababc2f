"""Operating points in the manifest: put there without losing those of another process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from effbert.runtime.bundle.folder import Bundle, open_bundle, replace_manifest
from effbert.runtime.bundle.manifest import OperatingPoint
from effbert.runtime.errors import BundleError, InputError


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


def make_default(folder: Path, name: str) -> Bundle:
    """Let the knob values of a point be those of calls that give none.

    Args:
        folder: Of the bundle.
        name: Of one of its points.

    Raises:
        InputError: There is no such point, or it selects another size of the model than the
            largest, which every host without knobs runs.
        BundleError: The bundle cannot be read or written.
    """
    with _alone(folder):
        bundle = open_bundle(folder)
        manifest = bundle.manifest
        point = next((each for each in manifest.operating_points if each.name == name), None)
        if point is None:
            raise InputError(f"The bundle has no operating point {name}, so the defaults stay.")
        knobs = []
        for knob in manifest.knobs:
            value = point.knobs.get(knob.name, knob.default)
            if knob.choices is not None and value != knob.default:
                raise InputError(
                    f"{name} selects a smaller variant, and the default of a bundle is its "
                    "largest; name the point in every call: Session(..., operating_point=...)."
                )
            knobs.append(msgspec.structs.replace(knob, default=value))
        return replace_manifest(bundle, msgspec.structs.replace(manifest, knobs=knobs))


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

"""Write a bundle so that a reader finds the old one, the new one or none, never a part of one."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from effbert.runtime.bundle.manifest import File
from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.errors import OutputExistsError, ResourceError

LEFTOVER = re.compile(
    r"\.(?P<target>.+)\.(?P<kind>tmp|old)-(?P<pid>\d+)-(?P<process>[0-9a-f]{8})[0-9a-f]{8}"
)
# Process ids are used again, in a container even by the next export.
PROCESS = secrets.token_hex(4)
OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BundleWriter:
    """A folder beside the target that becomes the target when it is complete."""

    def __init__(self, target: Path, folder: Path) -> None:
        """Take the final place and the existing temporary folder; see `writing`."""
        self.target = target
        self.folder = folder
        self.files: dict[str, File] = {}

    def write(self, name: str, *parts: bytes | memoryview) -> None:
        """Write one file, flushed to the disk, and note its size and hash.

        Raises:
            ResourceError: The disk is full or refuses the file.
        """
        digest, size = hashlib.sha256(), 0
        path = self.folder / name
        try:
            with path.open("wb") as file:
                for part in parts:
                    file.write(part)
                    digest.update(part)
                    size += len(part)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _disk_error(path, sum(map(len, parts)), error) from error
        if name != MANIFEST_NAME:
            self.files[name] = File(size=size, sha256=digest.hexdigest())

    def publish(self, force: bool) -> None:
        """Move the complete folder to its final place, over an old bundle if `force`.

        Raises:
            OutputExistsError: Something is there that may not be replaced.
            ResourceError: The disk refuses.
        """
        check_target(self.target, force)
        old = _sibling(self.target, "old")
        try:
            _sync(self.folder)
            if self.target.exists():
                self.target.rename(old)
            self.folder.rename(self.target)
        except OSError as error:
            raise _disk_error(self.target, total_size(self.files), error) from error
        finally:
            _settle(self.target, old)
        with suppress(OSError):  # the bundle is there; only a power cut could still undo it
            _sync(self.target.parent)


@contextmanager
def writing(target: Path) -> Iterator[BundleWriter]:
    """Yield a writer whose folder is removed again unless it was published.

    Folders that a killed export left behind are removed first, and a bundle that it had moved
    aside is put back.

    Raises:
        ResourceError: No folder can be made beside the target.
    """
    missing = [p for p in target.parents if not os.path.lexists(p)]
    folder = _sibling(target, "tmp")
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target)
            folder.mkdir()
        except OSError as error:
            raise _disk_error(target, 0, error) from error
        yield BundleWriter(target, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in missing:
            with suppress(OSError):  # not empty: the bundle is there
                parent.rmdir()


def check_target(target: Path, force: bool) -> None:
    """Refuse a target that exists, or with `force` one that is not a bundle.

    Raises:
        OutputExistsError: The target may not be replaced.
    """
    try:
        if not os.path.lexists(target):
            return
        if not force:
            raise OutputExistsError(f"{target} exists already; pass --force to replace it.")
        if target.is_symlink() or not target.is_dir():
            raise OutputExistsError(f"{target} is not a folder; --force replaces bundles only.")
        if any(target.iterdir()) and not (target / MANIFEST_NAME).is_file():
            raise OutputExistsError(
                f"{target} holds files but no {MANIFEST_NAME}; --force replaces bundles only."
            )
    except OSError as error:
        raise _disk_error(target, 0, error) from error


def sweep(target: Path) -> None:
    """Clean up beside `target` what dead processes left there."""
    try:
        beside = list(target.parent.iterdir())
    except OSError:  # a folder that may be written but not listed
        return
    for path in beside:
        match = LEFTOVER.fullmatch(path.name)
        if match is None or match["target"] != target.name or _alive(match):
            continue
        if match["kind"] == "old":
            _settle(target, path)
        else:
            shutil.rmtree(path, ignore_errors=True)


def check_space(target: Path, needed: int) -> None:
    """Refuse early if the disk clearly cannot hold `needed` bytes.

    Raises:
        ResourceError: Less is free than needed, plus a tenth.
    """
    parent = next(p for p in target.absolute().parents if p.exists())
    free = shutil.disk_usage(parent).free
    needed += needed // 10
    if free < needed:
        raise ResourceError(
            f"{target} needs about {_megabytes(needed)}, but only {_megabytes(free)} are free on "
            "that disk; free some space or choose another place."
        )


def _settle(target: Path, old: Path) -> None:
    """Remove what was moved aside, or put it back where nothing has taken its place."""
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        with suppress(OSError):
            old.rename(target)


def _sibling(target: Path, kind: str) -> Path:
    run = f"{os.getpid()}-{PROCESS}{secrets.token_hex(4)}"
    return target.parent / f".{target.name}.{kind}-{run}"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _alive(leftover: re.Match[str]) -> bool:
    """Tell whether the process that made a folder may still be at work."""
    pid = int(leftover["pid"])
    if pid == os.getpid():
        return leftover["process"] == PROCESS
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _disk_error(path: Path, needed: int, error: OSError) -> ResourceError:
    if error.errno in OUT_OF_SPACE:
        free = shutil.disk_usage(next(p for p in path.absolute().parents if p.exists())).free
        need = f"it needs {_megabytes(needed)} and " if needed else ""
        return ResourceError(
            f"{path.name} does not fit ({error.strerror}): {need}{_megabytes(free)} are free in "
            f"{path.parent}; free some space or choose another place."
        )
    return ResourceError(f"{path} cannot be written: {error.strerror or error}.")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes"


def total_size(files: Mapping[str, File]) -> int:
    """Sum the sizes of a bundle's files in bytes."""
    return sum(file.size for file in files.values())

"""Which compiled plans may be loaded: a plan is code, and runs with the rights of this process.

Hashes of the plans that were built here, or that the user adopted, lie in a folder of the user's
data, one small file each. A plan's bytes are handed out only if its size and hash are those of
`engine.json` *and* its hash is there. The library is no judge of it: it finds some damage, no
malice.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from effbert.runtime.bundle.paths import open_file
from effbert.runtime.engines.plans.index import PlanSegment, read_index
from effbert.runtime.errors import EffbertError, PlanError, ResourceError


def trust_folder() -> Path:
    """Return where hashes of trusted plans lie: `effbert/plans` in the user's data."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "effbert" / "plans"


def trust_hashes(hashes: Iterable[str], note: str) -> None:
    """Trust plans from now on.

    Args:
        hashes: sha256 of each.
        note: Where they come from, for people who look.

    Raises:
        ResourceError: The folder cannot be written.
    """
    folder = trust_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for digest in hashes:
            _write(folder, digest, note)
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be written ({error.strerror}), so that nothing built here would be "
            "trusted; make it writable, or set XDG_DATA_HOME."
        ) from error


def _write(folder: Path, name: str, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.replace(temporary, folder / name)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def is_trusted(digest: str) -> bool:
    """Tell whether a plan of this hash was built here or adopted.

    Raises:
        PlanError: Other users may write to the folder of hashes, so that it proves nothing.
    """
    folder = trust_folder()
    if not (folder / digest).is_file():
        return False
    if hasattr(os, "getuid"):
        found = folder.stat()
        if found.st_uid not in (os.getuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PlanError(
                f"{folder} may be written by other users, so that its hashes prove nothing; make "
                f"it yours alone: chmod 700 {folder}."
            )
    return True


def adopt_plans(folder: Path) -> list[tuple[str, str]]:
    """Trust the plans of a folder that were built elsewhere, if they are what its index says.

    Returns:
        File and hash of each.

    Raises:
        PlanError: A plan is missing or is not what `engine.json` says; none is trusted then.
        ResourceError: The folder of hashes cannot be written.
    """
    index = read_index(folder)
    for segment in index.segments:
        _checked(folder, segment)
    adopted = [(segment.plan, segment.plan_sha256) for segment in index.segments]
    trust_hashes([digest for _, digest in adopted], f"adopted from {folder}")
    return adopted


def read_plan(folder: Path, segment: PlanSegment) -> bytes:
    """Read a plan, and return its bytes only if they are trusted.

    Raises:
        PlanError: It is foreign, altered, truncated, missing or a link that leads out.
        ResourceError: It is larger than the memory.
    """
    if not is_trusted(segment.plan_sha256):
        raise PlanError(
            f"{segment.plan} in {folder} was not built on this machine, and a plan is code; build "
            f"it here, or, if you know who built it, adopt it with: effbert compile --trust "
            f"{folder}."
        )
    return _checked(folder, segment)


def _checked(folder: Path, segment: PlanSegment) -> bytes:
    """Read the bytes that `engine.json` promises."""
    try:
        descriptor = open_file(folder, segment.plan)
    except EffbertError as error:
        raise PlanError(f"A plan cannot be read: {str(error).rstrip('.')}.") from error
    with open(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == segment.size:
            try:
                data = file.read(segment.size + 1)
            except MemoryError:
                raise ResourceError(
                    f"{segment.plan} does not fit into memory: it has {segment.size} bytes."
                ) from None
            size = len(data)
    if size != segment.size:
        how = "truncated" if size < segment.size else "longer than it was"
        raise PlanError(
            f"{segment.plan} is {how}: it has {size} bytes, engine.json says {segment.size}; copy "
            "the folder again, or compile the bundle again."
        )
    found = hashlib.sha256(data).hexdigest()
    if found != segment.plan_sha256:
        raise PlanError(
            f"{segment.plan} was altered: its sha256 is {found[:12]}, engine.json says "
            f"{segment.plan_sha256[:12]}; it is not loaded; compile the bundle again."
        )
    return data

"""The user's cache of compiled plans: a folder for each bundle, engine, device and precision."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from effbert.runtime.bundle.strict_json import write_json
from effbert.runtime.engines.plans.index import INDEX_NAME, PlanIndex, read_index
from effbert.runtime.engines.plans.jit_cache import user_cache
from effbert.runtime.errors import PlanError, ResourceError

LIMIT = 16 << 30  # bytes of all plans together


class Key(NamedTuple):
    """What plans are compiled from and for; anything else gives other plans."""

    segments: Mapping[str, str]  # file -> sha256
    weights: str | None
    engine: str
    library: str
    targets: tuple[str, ...]
    compute: str
    profiles: Any
    flags: Mapping[str, bool]

    def digest(self) -> str:
        """Return the name of the folder."""
        return hashlib.sha256(write_json(self._asdict())).hexdigest()[:32]


def store_folder() -> Path:
    """Return where the plans lie: `effbert/plans` in the user's cache."""
    return user_cache() / "plans"


def folder_of(key: Key) -> Path:
    """Return the folder that belongs to a key."""
    return store_folder() / key.digest()


def stored_plans() -> Iterator[tuple[Path, PlanIndex]]:
    """Give every folder of plans in the cache that can be read, the most recently used first."""
    for folder in _by_use():
        with suppress(PlanError):
            yield folder, read_index(folder)


def mark_used(folder: Path) -> None:
    """Remember that plans are in use, so that others go before them."""
    with suppress(OSError):
        os.utime(folder / INDEX_NAME)


def evict(kept: Path, limit: int = LIMIT) -> list[tuple[Path, int]]:
    """Remove plans that were not used for longest, until the rest fits the limit.

    Args:
        kept: Stays in any case.
        limit: Bytes of all plans together.

    Returns:
        Folder and bytes of what was removed.

    Raises:
        ResourceError: A folder cannot be removed.
    """
    sizes = {folder: _size(folder) for folder in _by_use()}
    total, removed = sum(sizes.values()), []
    for folder in reversed(sizes):
        if total <= limit:
            break
        if folder == kept:
            continue
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise ResourceError(
                f"{folder} cannot be removed to make room: {error.strerror}."
            ) from error
        total -= sizes[folder]
        removed.append((folder, sizes[folder]))
    return removed


def _by_use() -> list[Path]:
    times = {}
    with suppress(OSError):
        for folder in store_folder().iterdir():
            with suppress(OSError):
                times[folder] = (folder / INDEX_NAME).stat().st_mtime_ns
    return sorted(times, key=lambda folder: times[folder], reverse=True)


def _size(folder: Path) -> int:
    total = 0
    with suppress(OSError):
        for file in folder.iterdir():
            with suppress(OSError):
                total += file.lstat().st_size
    return total

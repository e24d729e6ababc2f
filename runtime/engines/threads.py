"""How many threads compute: what was asked for, or what this process, not its machine, may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from effbert.runtime.errors import InputError

ROOT = Path("/")
CORES = "sys/devices/system/cpu"
ALL_CORES = "the physical cores"


class Threads(NamedTuple):
    """How many threads compute one segment, and why; None is the engine's own choice."""

    number: int | None
    reason: str

    @property
    def told(self) -> int | None:
        """What an engine is told: nothing where it chooses the same, and may pin its threads."""
        return None if self.reason == ALL_CORES else self.number

    def __str__(self) -> str:
        return self.reason if self.number is None else f"{self.number}: {self.reason}"


def choose_threads(asked: int | None = None, root: Path = ROOT) -> Threads:
    """Tell how many threads a session gets.

    By default that is the number of physical cores, unless the process may use fewer CPUs (its
    affinity) or less of their time (the quota of its control group, rounded up).

    Args:
        asked: What the user wants; None is the default.
        root: Where `proc` and `sys` are.

    Raises:
        InputError: `asked` is no positive integer.
    """
    if asked is not None:
        if isinstance(asked, bool) or not isinstance(asked, int | np.integer) or asked < 1:
            raise InputError(f"Threads: got {asked!r}, expected a positive integer or None.")
        return Threads(int(asked), "asked for")
    limits = [
        Threads(_physical_cores(root / CORES), ALL_CORES),
        Threads(_allowed_cpus(), "the CPUs this process may use"),
    ]
    quota = cpu_quota(root)
    if quota is not None:
        limits.append(
            Threads(max(1, math.ceil(quota)), f"the quota of the cgroup ({quota:.4g} CPUs)")
        )
    known = [limit for limit in limits if limit.number is not None]
    if not known:
        return Threads(None, "the engine's own choice")
    return min(known, key=lambda limit: limit.number or 0)


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return how many CPUs' time the control groups of this process grant; None is no limit.

    The group itself counts, and every group above it that can be seen, in version 1 and 2.
    """
    quotas = [quota for folder in _groups(root) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Every folder of a group of this process, its parents too."""
    own: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)  # "" in version 2
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, (kind, *_, options) = before.split(), after.split()
        name = {"cgroup": "cpu", "cgroup2": ""}.get(kind)
        if name is None or name not in own or (name and name not in options.split(",")):
            continue
        mounted = root / fields[4].lstrip("/")
        folder = Path(os.path.normpath(mounted / os.path.relpath(own[name], fields[3])))
        yield mounted  # in a container this may be the own group, and the path name one outside
        yield from (each for each in (folder, *folder.parents) if mounted in each.parents)


def _quota(group: Path) -> float | None:
    both = " ".join(_lines(group / "cpu.max")).split()
    if not both:
        both = [*_lines(group / "cpu.cfs_quota_us"), *_lines(group / "cpu.cfs_period_us")]
    try:
        quota, period = map(float, both)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _physical_cores(folder: Path) -> int | None:
    """Count the cores of the machine, of which each may be several CPUs."""
    files = folder.glob("cpu[0-9]*/topology/thread_siblings_list")
    return len({tuple(_lines(file)) for file in files}) or None


def _allowed_cpus() -> int | None:
    counted = getattr(os, "process_cpu_count", None)  # Python 3.13, where PYTHON_CPU_COUNT counts
    if counted is not None:
        return int(counted() or 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []

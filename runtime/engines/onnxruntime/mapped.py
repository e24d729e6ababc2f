"""Memory that a library has no more use for: of files that it mapped, and of what it freed."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MAPS = Path("/proc/self/maps")
DONT_NEED = 4  # MADV_DONTNEED


def give_back(folder: Path) -> None:
    """Let the system take the pages of all files that are mapped from a folder; Linux only.

    onnxruntime packs the weights of branches and keeps the originals mapped, which would count
    twice. A page that is wanted after all is read from its file again, even if that was removed.
    """
    try:
        lines = MAPS.read_text().splitlines()
    except OSError:
        return
    inside = f"{os.path.realpath(folder)}/"  # as the lines name it
    advise = ctypes.CDLL(None).madvise
    for line in lines:
        span, *others = line.split(maxsplit=5)
        if len(others) == 5 and others[-1].startswith(inside):
            start, end = (int(address, 16) for address in span.split("-"))
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), DONT_NEED)


def trim() -> None:
    """Let the system take what was freed; elsewhere than with glibc nothing happens.

    By itself glibc gives back only what lies above everything that is still in use.
    """
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)

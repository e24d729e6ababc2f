"""A temporary folder for files that a library reads while a bundle is opened."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path


@contextmanager
def passing_folder() -> Iterator[Path]:
    """Make a folder that is gone after the block, or when this very process ends.

    Unlike `TemporaryDirectory`, a process that was forked inside the block, by another thread,
    leaves the folder alone when it ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="effbert-"))
    remove = partial(_remove, folder, os.getpid())
    atexit.register(remove)
    try:
        yield folder
    finally:
        remove()
        atexit.unregister(remove)


def _remove(folder: Path, process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)

"""A folder of plans appears complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from effbert.runtime.engines.plans.index import INDEX_NAME
from effbert.runtime.errors import InputError, ResourceError


def require_free(folder: Path) -> None:
    """Refuse to write where something is.

    Raises:
        InputError: The folder is there and not empty, or is no folder.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if os.path.lexists(folder):
        what = "holds plans already" if (folder / INDEX_NAME).exists() else "exists already"
        raise InputError(f"{folder} {what}; delete it, or choose another --output.")


@contextmanager
def appearing_folder(folder: Path) -> Iterator[Path]:
    """Make a folder beside another, which it becomes if the block ends well.

    Raises:
        ResourceError: It cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent.absolute()))
    except OSError as error:
        raise ResourceError(f"{folder.parent} cannot be written: {error.strerror}.") from error
    try:
        yield work
        if folder.is_dir():  # an empty one
            folder.rmdir()
        work.chmod(0o755)
        os.replace(work, folder)
    except OSError as error:
        raise ResourceError(f"{folder} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)

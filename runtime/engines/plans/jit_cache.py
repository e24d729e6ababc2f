"""Kernels that TensorRT-RTX compiled on this GPU, kept for the next process.

They are code, as plans are, so they are kept in the user's own cache only, never beside plans that
came from elsewhere. The library refuses what another version, GPU or driver made; so does the
file's name.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

LARGEST = 100 << 20  # bytes; the library gets slow with more


def user_cache() -> Path:
    """Return the folder of this user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "effbert"


class JitCache:
    """The kernels of one plan on one GPU."""

    def __init__(self, *key: object, folder: Path | None = None) -> None:
        """Choose the file.

        Args:
            key: What the kernels depend on: plan, version, GPU, driver.
            folder: Where they are kept; None is the user's cache.
        """
        digest = hashlib.sha256("\n".join(map(str, key)).encode()).hexdigest()
        self._path = (folder or user_cache()) / "kernels" / f"{digest[:32]}.bin"
        self._read = b""

    def read(self) -> bytes:
        """Return what was kept; nothing if there is nothing, or others may write it."""
        try:
            if not _is_own(self._path) or not _is_own(self._path.parent):
                return b""
            self._read = self._path.read_bytes()
        except OSError:
            return b""
        return self._read

    def write(self, data: bytes) -> None:
        """Keep kernels; without a folder that can be written they are compiled again next time."""
        if not data or data == self._read or len(data) > LARGEST:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(dir=self._path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(name).replace(self._path)
                self._read = data
            except OSError:
                Path(name).unlink(missing_ok=True)


def _is_own(path: Path) -> bool:
    """Whether this user owns a file or folder that nobody else may write."""
    found = path.lstat()
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & 0o022

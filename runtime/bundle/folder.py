"""A bundle on disk: its manifest, and its files as bytes that were checked.

`open_bundle` reads the manifest and compares sizes. `Bundle.read` hashes the very bytes it returns,
so what was checked is what runs, every file is read once, and nobody can swap a file in between.
Nothing here writes, except `replace_manifest`. Files the manifest does not list are ignored.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from effbert.runtime.bundle.hub import fetch_bundle, is_hub_id
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.bundle.parse import MAX_MANIFEST_BYTES, encode_manifest, parse_manifest
from effbert.runtime.bundle.paths import open_file
from effbert.runtime.errors import (
    BundleError,
    InputError,
    IntegrityError,
    PathError,
    ResourceError,
)

_ARCHIVES = (".tar", ".tgz", ".gz", ".zip", ".bz2", ".xz", ".zst", ".7z")


@dataclass(frozen=True)
class Bundle:
    """An open bundle: its folder (absolute), its manifest, and its ORG/NAME@COMMIT on the hub."""

    path: Path
    manifest: Manifest
    origin: str | None = None

    def read(self, name: str) -> bytes:
        """Read one file of the manifest; the bytes returned have the size and hash it promises.

        Raises:
            PathError: The manifest does not list `name`, it leads out of the bundle, or is no
                regular file.
            IntegrityError: The file is missing, or its size or hash differs.
            ResourceError: The file is larger than the memory.
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            raise PathError(f"The manifest lists no file {name[:128]!r}.")
        with open(open_file(self.path, name), "rb") as file:
            _compare_size(name, os.fstat(file.fileno()).st_size, expected.size)
            try:
                data = file.read(expected.size + 1)  # the extra byte shows a file that grew since
            except MemoryError:
                raise ResourceError(
                    f"{name} does not fit into memory: it has {expected.size} bytes."
                ) from None
        _compare_size(name, len(data), expected.size)
        found = hashlib.sha256(data).hexdigest()
        if found != expected.sha256:
            raise IntegrityError(
                f"{name} is damaged: its sha256 is {found[:12]}, the manifest says "
                f"{expected.sha256[:12]}; copy or export the bundle again."
            )
        return data

    def verify_files(self) -> int:
        """Read and hash every file of the manifest, and return the number of bytes.

        Raises:
            PathError, IntegrityError: As `read`.
        """
        return sum(len(self.read(name)) for name in self.manifest.files)


def open_bundle(path: str | os.PathLike[str], revision: str | None = None) -> Bundle:
    """Open a bundle: a folder, or ORG/NAME on the hub, which is fetched if no folder has that name.

    Reads and checks the manifest and compares the size of every file. Hashes are compared by
    `Bundle.read`, once, when a file is needed.

    Args:
        path: The folder, which may be reached through a symbolic link, or the id.
        revision: Branch, tag or commit on the hub; None is the branch `main`.

    Raises:
        InputError: A revision of a folder.
        MissingDependencyError: The hub's client is not installed.
        ManifestError, VersionError: The manifest cannot be used.
        PathError, IntegrityError: A file is missing, leads out of the bundle, or has another size.
        BundleError: There is no such folder, it cannot be read, or the hub gave nothing.
    """
    if is_hub_id(path):
        folder, origin = fetch_bundle(str(path), revision)
        return Bundle(folder, _opened(folder, path), origin)
    if revision is not None:
        raise InputError(f"A revision belongs to ORG/NAME on the hub; {path} is a path.")
    folder = Path(path).absolute()
    return Bundle(folder, _opened(folder, path))


def _opened(folder: Path, path: str | os.PathLike[str]) -> Manifest:
    """Read the manifest and compare sizes; `path` is what the user called the folder."""
    if not folder.is_dir():
        raise BundleError(_not_a_folder(Path(path)))
    if not os.path.lexists(folder / MANIFEST_NAME):
        raise BundleError(f"{path} is not a bundle: it holds no {MANIFEST_NAME}.")
    with open(open_file(folder, MANIFEST_NAME), "rb") as file:
        manifest = parse_manifest(file.read(MAX_MANIFEST_BYTES + 1))
    for name, expected in manifest.files.items():
        with open(open_file(folder, name), "rb") as file:
            _compare_size(name, os.fstat(file.fileno()).st_size, expected.size)
    return manifest


def replace_manifest(bundle: Bundle, manifest: Manifest) -> Bundle:
    """Replace the manifest on disk; a reader sees the old one or the new one, never a mixture.

    Keys that start with `x-` are not kept.

    Raises:
        ManifestError: `open_bundle` would refuse the new manifest; nothing is written.
        BundleError: The manifest is a link, or the folder cannot be written; the old one stays.
    """
    require_own_manifest(bundle)
    data = encode_manifest(manifest)
    parse_manifest(data)
    temporary = bundle.path / f".{MANIFEST_NAME}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, bundle.path / MANIFEST_NAME)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise BundleError(
            f"{MANIFEST_NAME} cannot be replaced: {error.strerror}; the old one is untouched."
        ) from error
    return Bundle(bundle.path, manifest)


def require_own_manifest(bundle: Bundle) -> None:
    """Refuse to change a manifest that a cache or a volume shares.

    Raises:
        BundleError: It is a link.
    """
    if (bundle.path / MANIFEST_NAME).is_symlink():
        raise BundleError(
            f"{MANIFEST_NAME} is a link into a cache or a volume, which is left as it is; copy the "
            "bundle with its links resolved (cp -rL) and use the copy."
        )


def _compare_size(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise IntegrityError(
            f"{name} is damaged: it has {found} bytes, the manifest says {expected}; "
            "copy or export the bundle again."
        )


def _not_a_folder(path: Path) -> str:
    if not path.exists():
        return f"There is no bundle at {path}; pass a folder, or ORG/NAME of one on the hub."
    if path.suffix.lower() in _ARCHIVES:
        return f"{path} is an archive; unpack it and pass the folder."
    return f"{path} is not a folder; pass the folder that holds {MANIFEST_NAME}."

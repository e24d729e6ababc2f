"""Where the native library and its onnxruntime are."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from effbert.runtime.engines.native.interface import declare
from effbert.runtime.errors import MissingDependencyError

VARIABLE = "EFFBERT_NATIVE_LIBRARY"
PACKAGE = "effbert_native"
PATTERNS = ("libeffbert.so", "libeffbert.dylib")
ABI = 1
HOW = (
    "install it with: pip install effbert-native onnxruntime, build it with: make native, or name "
    f"it in {VARIABLE}"
)


@cache
def load_library() -> ctypes.CDLL:
    """Load the native library and declare its functions.

    It is the one that `EFFBERT_NATIVE_LIBRARY` names, that of the package `effbert-native`, or that
    of the build folder of this repository.

    Raises:
        MissingDependencyError: There is none, or it is of another version.
    """
    path = _named() or _in_package() or _built()
    if path is None:
        raise MissingDependencyError(f"Engine 'native' needs the library effbert-native; {HOW}.")
    try:
        library = ctypes.CDLL(str(path))
        found = int(library.effbert_abi())
    except (OSError, AttributeError) as error:
        raise MissingDependencyError(
            f"Engine 'native' cannot load {path} ({error}); {HOW}."
        ) from error
    if found != ABI:
        raise MissingDependencyError(
            f"Engine 'native' needs interface {ABI} of effbert-native, {path} has {found}; {HOW}."
        )
    declare(library)
    return library


def onnxruntime_library() -> Path | None:
    """Find the library of the installed `onnxruntime`; None leaves it to the system's loader."""
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "capi"
    found = [*folder.glob("libonnxruntime.so*"), *folder.glob("libonnxruntime.*.dylib")]
    return min(found, default=None)


def _named() -> Path | None:
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def _in_package() -> Path | None:
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return _first(Path(folder) / "lib" for folder in folders)


def _built() -> Path | None:
    """Look into the build folder beside the sources, which an installed effbert does not have."""
    return _first([Path(__file__).resolve().parents[3] / "build" / "native"])


def _first(folders: object) -> Path | None:
    for folder in folders:  # type: ignore[attr-defined]
        for pattern in PATTERNS:
            if (folder / pattern).is_file():
                return Path(folder) / pattern
    return None

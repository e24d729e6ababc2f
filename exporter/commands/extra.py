"""Say which library of the `export` extra is missing."""

from __future__ import annotations

import importlib

from effbert.runtime.errors import MissingDependencyError

EXTRA = 'pip install "effbert[export,cpu]"'


def require_extra(*libraries: str) -> None:
    """Import what exporting needs, `libraries` beside the ONNX ones.

    Raises:
        MissingDependencyError: One cannot be imported.
    """
    for library in ("onnx_ir", "onnxscript", *libraries):
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise MissingDependencyError(
                f"This needs {library}, which cannot be imported ({error}); "
                f"install it with: {EXTRA}."
            ) from error

"""Engines by name. Each is one folder, imported when chosen.

A new engine is one entry in `ENGINES`, one folder with a class that follows `protocol.Engine`, and
a line in `row_independence.py` once its row independence is measured.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from effbert.runtime.engines.protocol import Engine
from effbert.runtime.errors import InputError, MissingDependencyError


class Entry(NamedTuple):
    """Where an engine is (`module:Class`), the library it needs and how to get that."""

    target: str
    library: str
    install: str


ENGINES = {
    "onnxruntime": Entry(
        "effbert.runtime.engines.onnxruntime.engine:OnnxRuntime",
        "onnxruntime",
        'pip install "effbert[cpu]"',
    ),
    "openvino": Entry(
        "effbert.runtime.engines.openvino.engine:OpenVino",
        "openvino",
        'pip install "effbert[openvino]"',
    ),
}


def open_engine(name: str, threads: int | None = None, precision: str = "fp32") -> Engine:
    """Imports and creates an engine.

    Args:
        name: A key of `ENGINES`.
        threads: Threads that compute one segment; None is the engine's own choice.
        precision: Of the bundle, as its manifest says.

    Raises:
        InputError: There is no such engine, or `threads` is not a positive integer.
        MissingDependencyError: Its library is not installed.
    """
    if name not in ENGINES:
        raise InputError(f"There is no engine {name!r}; choose one of: {', '.join(ENGINES)}.")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int)):
        raise InputError(f"Threads: got {threads!r}, expected a positive integer or None.")
    if threads is not None and threads < 1:
        raise InputError(f"Threads: got {threads}, expected a positive integer or None.")
    entry = ENGINES[name]
    module, _, cls = entry.target.partition(":")
    try:
        engine: Engine = getattr(import_module(module), cls)(threads, precision)
    except ImportError as error:
        raise MissingDependencyError(
            f"Engine {name!r} needs {entry.library}, which cannot be imported ({error}); "
            f"install it with: {entry.install}."
        ) from error
    return engine

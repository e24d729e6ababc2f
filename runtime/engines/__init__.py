"""Engines by name. An engine makes a segment executable; each is one module, imported when chosen.

A new engine is one entry in `ENGINES`, one module with a class that follows `Engine`, and a line in
`rows.py` once its row independence is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from numpy import ndarray

from effbert.runtime.errors import InputError, MissingDependencyError
from effbert.runtime.knobs import Values


class Runnable(Protocol):
    """One loaded segment. `run` may be called from many threads at the same time."""

    def run(self, feeds: Mapping[str, ndarray], options: Any = None) -> dict[str, ndarray]:
        """Computes the outputs; `options` is what `Engine.options` gave."""


class RunnableChain(Protocol):
    """All segments of a bundle, loaded. `run` may be called from many threads at the same time."""

    def run(
        self,
        first: int,
        most: int,
        tensors: Mapping[str, ndarray],
        knobs: Values,
        options: Any = None,
    ) -> tuple[int, dict[str, ndarray], dict[str, ndarray]]:
        """Runs the segment at `first`, and may go on while no row leaves.

        Args:
            first: Place of a segment.
            most: How many segments may run.
            tensors: Inputs, states and carries by name.
            knobs: Of all segments.
            options: What `Engine.options` gave.

        Returns:
            The place of the last segment that ran, its outputs by name, and the carries that were
            replaced by the names that segments read, for rows that go on. The segments before it
            let no row leave.
        """


class Engine(Protocol):
    """What a session needs of an engine.

    Errors are EngineError and ResourceError, and of `load` BundleError too. An engine may have a
    method `join(manifest, files, weights)` as well, which opens the files of all segments of a
    manifest at once, as a RunnableChain; it raises ValueError where it cannot.
    """

    def __init__(self, threads: int | None, precision: str) -> None: ...

    def load(self, name: str, model: bytes, weights: bytes | None) -> Runnable:
        """Makes a segment executable.

        Args:
            name: File name of the segment, for messages.
            model: The ONNX file.
            weights: Content of `weights.bin`, needed until `load` returns.
        """

    def options(self) -> Any:
        """Options of one call, with an attribute `terminate` that stops it when set to True."""


class Entry(NamedTuple):
    """Where an engine is (`module:Class`), the library it needs and how to get that."""

    target: str
    library: str
    install: str


ENGINES = {
    "onnxruntime": Entry(
        "effbert.runtime.engines.onnxruntime:OnnxRuntime",
        "onnxruntime",
        'pip install "effbert[cpu]"',
    ),
    "openvino": Entry(
        "effbert.runtime.engines.openvino:OpenVino",
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

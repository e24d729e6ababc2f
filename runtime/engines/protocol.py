"""What a session needs of an engine: it makes segments executable."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy import ndarray


class Values(list[dict[str, np.ndarray]]):
    """What graphs are fed for knobs: segment -> knob name -> array.

    Attributes:
        stacked: Knob name -> the same for all segments, [segments, ...].
    """

    @cached_property
    def stacked(self) -> dict[str, np.ndarray]:
        """Stacks the arrays, once."""
        names = self[0] if self else {}
        return {name: np.stack([values[name] for values in self]) for name in names}


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

"""What a session needs of an engine: it makes segments executable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy import ndarray

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.errors import InputError


class Values(list[dict[str, np.ndarray]]):
    """What graphs are fed for knobs: segment -> knob name -> array.

    Attributes:
        stacked: Knob name -> the same for all segments, [segments, ...].
    """

    @cached_property
    def stacked(self) -> dict[str, np.ndarray]:
        """Stack the arrays, once."""
        names = self[0] if self else {}
        return {name: np.stack([values[name] for values in self]) for name in names}


@dataclass(frozen=True)
class EngineSettings:
    """What is asked of an engine when it is opened.

    Attributes:
        threads: Threads that compute one segment; None is what `choose_threads` says.
        precision: Of the bundle, as its manifest says.
        device: Where to compute, such as "cpu" or "cuda:0"; None is the engine's own choice.
        folder: Where an engine that compiles finds and keeps its plans; None is its own choice.
        strict: Refuse what is not there, where the engine would otherwise warn and do without.
    """

    threads: int | None = None
    precision: str = "fp32"
    device: str | None = None
    folder: Path | None = None
    strict: bool = False

    def require_cpu(self, engine: str) -> None:
        """Refuse other devices, for an engine that computes on the CPU only.

        Raises:
            InputError: Another device is asked for.
        """
        if self.device not in (None, "cpu"):
            raise InputError(
                f"Engine {engine!r} computes on the CPU only, got device {self.device!r}."
            )


class ShapeLimits(NamedTuple):
    """The largest call that an engine takes: larger batches are split, longer rows refused.

    `steps` says more where it depends on the length: (length, rows), shorter lengths first.
    """

    rows: int | None = None
    length: int | None = None
    steps: tuple[tuple[int, int], ...] = ()

    def rows_of(self, length: int) -> int | None:
        """Return how many rows of this length a call may have; None is any number."""
        return next((rows for longest, rows in self.steps if length <= longest), self.rows)


UNLIMITED = ShapeLimits()


class CannotJoinError(Exception):
    """An engine cannot open all segments as one; the message says why. They run one by one."""


class Runnable(Protocol):
    """One loaded segment. `run` may be called from many threads at the same time."""

    def run(self, feeds: Mapping[str, ndarray], options: Any = None) -> dict[str, ndarray]:
        """Compute the outputs; `options` is what `Engine.options` gave."""


class Resident(Protocol):
    """A carry that stays where the engine computes; the host only says what of it goes on."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what goes on."""

    def narrowed(self, rows: ndarray | slice, columns: int | None) -> Resident:
        """Choose some rows of it, and its first columns; nothing is copied.

        Args:
            rows: What numpy takes as an index of axis 0.
            columns: How many; None if its columns are not those of the mask.
        """


Carry = ndarray | Resident


class ChainCall(Protocol):
    """One call's hold on a chain: what it made stays valid until the call ends."""

    def run(
        self,
        first: int,
        most: int,
        tensors: Mapping[str, Any],
        knobs: Values,
        options: Any = None,
    ) -> tuple[int, Mapping[str, ndarray], Mapping[str, Carry]]:
        """Run the segment at `first`, and may go on while no row leaves.

        Args:
            first: Index of a segment.
            most: How many segments may run.
            tensors: Inputs, states and carries by name; carries as an earlier `run` of this call
                made them, narrowed.
            knobs: Of all segments.
            options: What `Engine.options` gave.

        Returns:
            The index of the last segment that ran, its outputs by name, and the carries that were
            replaced by the names that segments read, for rows that go on. The segments before it
            let no row leave. Outputs may be fetched when they are looked at, which must be before
            the next `run`.
        """

    def end(self) -> None:
        """Give back what the call holds; a second time is fine."""


class RunnableChain(Protocol):
    """All segments of a bundle, loaded. Many threads may have calls at the same time.

    Attributes:
        joined: Whether they are one graph.
        reason: Why, or why not.
    """

    joined: bool
    reason: str

    def begin(self) -> ChainCall:
        """Begin a call; what needs no hold of its own returns itself."""


class Engine(Protocol):
    """What a session needs of an engine; errors are EngineError and ResourceError.

    Attributes:
        limits: The largest call it takes; known once the segments are there.
        chains: Whether it wants to chain the segments itself, a single one too: only `join` is
            called then.
        measured_rows: Largest difference of a logit between a row alone and in a batch, where it
            was measured on this very device; None where the table of `row_independence` says it.
    """

    limits: ShapeLimits
    chains: bool
    measured_rows: float | None

    def __init__(self, settings: EngineSettings) -> None: ...

    def load(self, name: str, model: bytes, weights: bytes | None) -> Runnable:
        """Make a segment executable.

        Args:
            name: File name of the segment, for messages.
            model: The ONNX file.
            weights: Content of `weights.bin`, needed until `load` returns.

        Raises:
            BundleError: The segment refers to files that no exporter writes.
        """

    def join(
        self, manifest: Manifest, files: Iterable[bytes], weights: bytes | None
    ) -> RunnableChain:
        """Open the files of all segments of a manifest at once.

        Raises:
            CannotJoinError: This engine, or these segments, must run one by one.
        """

    def options(self) -> Any:
        """Options of one call, with an attribute `terminate` that stops it when set to True."""


class ChainAnswers(NamedTuple):
    """What the answers of some rows are; see `Result` for the shapes.

    Attributes:
        outputs: Output name -> float32 [rows, ...].
        exit_index: int64 [rows].
        exit_layer: int64 [rows], or [rows, sequence] if tokens exit alone.
        signal: float32 [rows].
        deadline_hit: bool [rows].
    """

    outputs: dict[str, ndarray]
    exit_index: ndarray
    exit_layer: ndarray
    signal: ndarray
    deadline_hit: ndarray


class OwnChain(Protocol):
    """A bundle with all its variants, opened and chained by an engine alone."""

    def run(
        self,
        inputs: Mapping[str, ndarray],
        knobs: Values,
        remaining_ms: float | None = None,
        options: Any = None,
        every_exit: bool = False,
    ) -> ChainAnswers:
        """Answer rows.

        Args:
            inputs: Checked, int64 [rows, sequence].
            knobs: Of all segments.
            remaining_ms: Milliseconds after which rows get the answer of the exit just run.
            options: What `Engine.options` gave.
            every_exit: No row leaves; the answers of all rows at one exit follow those at another.
        """

    def close(self) -> None:
        """Free the segments."""


@runtime_checkable
class BundleEngine(Protocol):
    """What an engine says beside `Engine` if it opens bundles itself; `join` is not called then."""

    def open(self, bundle: Bundle) -> OwnChain:
        """Open a bundle; its files are read and compared again."""


@runtime_checkable
class CompiledEngine(Protocol):
    """What an engine says beside `Engine` if it runs plans that were compiled for this device.

    Attributes:
        compute: Precision that the plans compute in: "fp32", "fp16" or "bf16".
    """

    compute: str

    def keep_rows(self, difference: float) -> None:
        """Remember, beside the plans, how far apart rows alone and in batches were measured."""

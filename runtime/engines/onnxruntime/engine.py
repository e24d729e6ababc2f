"""Segments as onnxruntime sessions on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy import ndarray

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.bundle.names import MASK, WEIGHTS_NAME
from effbert.runtime.engines.failures import translated
from effbert.runtime.engines.forks import keep_in_children
from effbert.runtime.engines.onnxruntime.graph_bytes import REFERENCE, Branch
from effbert.runtime.engines.onnxruntime.joined import FIRST, LAST, MOST, Names, join_segments
from effbert.runtime.engines.onnxruntime.mapped import give_back, trim
from effbert.runtime.engines.passing_folder import passing_folder
from effbert.runtime.engines.protocol import (
    UNLIMITED,
    CannotJoinError,
    EngineSettings,
    Values,
)
from effbert.runtime.errors import EngineError, ResourceError, UnsafeContentError

ERRORS_ONLY, FATAL_ONLY = 3, 4
BLOCKS = ("int8-weight", "int4-weight")
EXACT, ROUNDED = "1", "4"  # onnxruntime's accuracy levels
# External data is looked up in memory first and then in this folder: only `weights.bin` as it was
# checked can be found, never a file of the current folder, whatever a segment refers to.
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
FROM_MEMORY = "add_external_initializers_from_files_in_memory"
NOWHERE = "/effbert/no-external-files"
JOINED_NAME = "joined.bin"
AWAKE = "200"  # microseconds; onnxruntime's own default is some 50,000
# Older ones ignore the setting.
MAY_SPIN_BRIEFLY = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 31)
LARGE = 1 << 12  # tokens; a run of more takes far longer than to tidy up after it
SHRINK = ("memory.enable_memory_arena_shrinkage", "cpu:0")  # what it takes to do so


class OnnxRuntime:
    """Opens segments with thread pools of their own.

    Pools of segments must not spin: with default settings every segment's idle pool keeps the cores
    busy while the next segment runs, which costs a factor of 4 to 6. The global pool of onnxruntime
    would avoid that too, but it breaks every other session of the host process. The pool of a
    joined graph looks for work a moment longer, to be awake for a call that follows at once.
    """

    limits = UNLIMITED
    chains = False
    measured_rows = None

    def __init__(self, settings: EngineSettings) -> None:
        settings.require_cpu("onnxruntime")
        self._threads = settings.threads or 0
        self._precision = settings.precision

    def load(self, name: str, model: bytes, weights: bytes | None) -> OnnxRuntimeSegment:
        """Open a segment from its checked bytes; see `Engine.load`."""
        options = self._session_options()
        if not hasattr(options, FROM_MEMORY) and REFERENCE in model:
            _refuse_other_files(name, model)
        try:
            with reachable(weights, options):
                return OnnxRuntimeSegment(name, _opened(model, options))
        except Exception as error:
            raise translated(error, "onnxruntime", "open", name) from error

    def join(
        self, manifest: Manifest, files: Iterable[bytes], weights: bytes | None
    ) -> OnnxRuntimeChain:
        """Open all segments as one graph; see `Engine`.

        onnxruntime wants the weights of branches in a file; its name is gone when this returns.
        """
        if os.name == "nt":
            raise CannotJoinError("a file that is mapped cannot be removed on Windows")
        try:
            with passing_folder() as folder:
                with open(folder / JOINED_NAME, "wb") as file:
                    model = join_segments(manifest, files, file, JOINED_NAME)
                if weights is not None:
                    (folder / WEIGHTS_NAME).write_bytes(weights)
                session = self._open_joined(model, folder)
                give_back(folder)
        except MemoryError as error:
            raise ResourceError("Memory ran out while the segments were joined.") from error
        except ValueError as error:
            raise CannotJoinError(str(error)) from error
        except OSError as error:
            raise CannotJoinError(
                f"the temporary folder cannot be used ({error.strerror or error})"
            ) from error
        return OnnxRuntimeChain(manifest, session)

    def _open_joined(self, model: bytes, folder: Path) -> onnxruntime.InferenceSession:
        options = self._session_options(joined=True)
        options.add_session_config_entry(EXTERNAL_FOLDER, str(folder))
        try:
            return _opened(model, options)
        except Exception as error:
            failure = translated(error, "onnxruntime", "open", "the segments")
            if isinstance(failure, EngineError):
                # Opened one by one, the segment that is to blame says so, if there is one.
                raise CannotJoinError(str(failure).rstrip(".")) from error
            raise failure from error

    def options(self) -> onnxruntime.RunOptions:
        """Options of one call; setting `terminate` stops it within about a millisecond."""
        return quiet_options()

    def _session_options(self, joined: bool = False) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # An arena saves up to a tenth in large batches, but keeps the peak of the largest one, and
        # segments that are opened one by one would have one each.
        options.enable_cpu_mem_arena = joined
        options.enable_mem_pattern = False
        if joined and MAY_SPIN_BRIEFLY:
            options.add_session_config_entry("session.intra_op.spin_duration_us", AWAKE)
        else:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        # Blocks of weights meet activations that are rounded to int8 block by block, row by row.
        level = ROUNDED if self._precision in BLOCKS else EXACT
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", level)
        return options


class OnnxRuntimeSegment:
    """One segment. onnxruntime allows concurrent runs, so nothing is locked."""

    def __init__(self, name: str, session: onnxruntime.InferenceSession) -> None:
        keep_in_children(self)
        self._name = name
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feeds: Mapping[str, ndarray], options: Any = None) -> dict[str, ndarray]:
        """Compute the outputs of the segment by name."""
        try:
            values = self._session.run(self._outputs, feeds, options)
        except Exception as error:
            raise translated(error, "onnxruntime", "run", self._name) from error
        return dict(zip(self._outputs, values, strict=True))


class OnnxRuntimeChain:
    """All segments of a bundle, as one session: see `RunnableChain`."""

    joined = True
    reason = "all segments are one graph"

    def __init__(self, manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
        keep_in_children(self)
        names = Names(manifest)
        # The class in Python checks names once more, which are right: 20 to 40 us a call. What it
        # wraps is no public name, so a later onnxruntime may be without.
        self._compute = getattr(session, "_sess", session).run
        self._inputs = list(names.entries.items())
        self._knobs = list(names.stacks.items())
        self._carries = list(names.carries)
        self._answers = [
            [(index, name) for index, name in enumerate(names.answers, 1) if name in made]
            for made in ({item.name for item in segment.outputs} for segment in manifest.segments)
        ]
        self._counts = [np.array(count) for count in range(len(manifest.segments) + 1)]
        self._ends = [LAST, *(names.ends[name] for name in names.answers)]
        self._all_ends = self._ends + [names.ends[name] for name in names.carries]
        self._quiet, self._tidy = quiet_options(), quiet_options()
        self._tidy.add_run_config_entry(*SHRINK)

    def begin(self) -> OnnxRuntimeChain:
        """Return the chain itself: calls share nothing."""
        return self

    def end(self) -> None:
        """Do nothing: the arrays that a call made belong to it."""

    def run(
        self,
        first: int,
        most: int,
        tensors: Mapping[str, ndarray],
        knobs: Values,
        options: Any = None,
    ) -> tuple[int, dict[str, ndarray], dict[str, ndarray]]:
        """Run segments until a row leaves."""
        rows, length = tensors[MASK].shape
        feeds = {FIRST: self._counts[first], MOST: self._counts[most]}
        for name, target in self._inputs:
            if name in tensors:
                feeds[target] = tensors[name]
        for name, target in self._knobs:
            feeds[target] = knobs.stacked[name]
        # A row that is alone at the end of the chain has left.
        alone = rows == 1 and first + most == len(self._answers)
        values = self._run(self._ends if alone else self._all_ends, feeds, options, rows * length)
        last = values[0].tolist() - 1
        answers = {name: values[index] for index, name in self._answers[last]}
        if alone:
            return last, answers, {}
        return last, answers, dict(zip(self._carries, values[len(self._ends) :], strict=True))

    def _run(
        self, outputs: list[str], feeds: Mapping[str, ndarray], options: Any, tokens: int
    ) -> list[ndarray]:
        large = tokens > LARGE
        try:
            try:
                values: list[ndarray] = self._compute(outputs, feeds, options or self._quiet)
                return [value.copy() for value in values] if large else values  # from the arena
            finally:
                if large:
                    self._tidy_up(feeds)
        except Exception as error:
            raise translated(error, "onnxruntime", "run", "the segments") from error

    def _tidy_up(self, feeds: Mapping[str, ndarray]) -> None:
        """Give back memory, by a run of no segment; what a run before it left is free by now."""
        feeds = {name: feeds[name] for name in (FIRST, *(target for _, target in self._knobs))}
        self._compute([LAST], feeds | {MOST: self._counts[0]}, self._tidy)
        trim()


def _opened(model: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], enable_fallback=0
    )
    # The Python object keeps the model for a fallback that is switched off; without this line
    # every segment would be in memory twice.
    session._model_bytes = None
    return session


def _refuse_other_files(name: str, model: bytes) -> None:
    """Refuse references to other files: onnxruntime 1.23 follows them out of its folder."""
    try:
        Branch(model, {})
    except ValueError as error:
        raise UnsafeContentError(
            f"{name} refers to files that no exporter writes ({error}); get the bundle again from "
            "where it was made."
        ) from error


def quiet_options() -> onnxruntime.RunOptions:
    """Options of a call whose failure is told by an exception alone, not on stderr too."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = FATAL_ONLY
    return options


@contextmanager
def reachable(weights: bytes | None, options: onnxruntime.SessionOptions) -> Iterator[None]:
    """Let a session that opens inside find `weights.bin` as it was checked, and no other file."""
    if weights is None:
        options.add_session_config_entry(EXTERNAL_FOLDER, NOWHERE)
        yield
    elif hasattr(options, FROM_MEMORY):
        options.add_session_config_entry(EXTERNAL_FOLDER, NOWHERE)
        options.add_external_initializers_from_files_in_memory(
            [WEIGHTS_NAME], [weights], [len(weights)]
        )
        yield
    else:  # onnxruntime 1.23, the last one for Python 3.10: it maps the file, then we remove it
        with passing_folder() as folder:
            (folder / WEIGHTS_NAME).write_bytes(weights)
            options.add_session_config_entry(EXTERNAL_FOLDER, str(folder))
            yield

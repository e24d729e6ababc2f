"""Segments as onnxruntime sessions on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
from numpy import ndarray

from effbert.runtime.engines.failures import translated
from effbert.runtime.manifest import WEIGHTS_NAME

ERRORS_ONLY = 3
BLOCKS = ("int8-weight", "int4-weight")
EXACT, ROUNDED = "1", "4"  # onnxruntime's accuracy levels
# External data is looked up in memory first and then in this folder: only `weights.bin` as it was
# checked can be found, never a file of the current folder, whatever a segment refers to.
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
NOWHERE = "/effbert/no-external-files"


class OnnxRuntime:
    """Opens segments with thread pools of their own.

    The pools must not spin: with default settings every segment's idle pool keeps the cores busy
    while the next segment runs, which costs a factor of 4 to 6. The global pool of onnxruntime
    would avoid that too, but it breaks every other session of the host process.
    """

    def __init__(self, threads: int | None, precision: str = "fp32") -> None:
        self._threads = threads or 0
        self._precision = precision

    def load(self, name: str, model: bytes, weights: bytes | None) -> OnnxRuntimeSegment:
        """Opens a segment from its checked bytes; see `Engine.load`."""
        options = self._session_options()
        try:
            with _reachable(weights, options):
                session = onnxruntime.InferenceSession(
                    model, options, providers=["CPUExecutionProvider"], enable_fallback=0
                )
        except Exception as error:
            raise translated(error, "onnxruntime", "open", name) from error
        # The Python object keeps the model for a fallback that is switched off; without this line
        # every segment would be in memory twice.
        session._model_bytes = None
        return OnnxRuntimeSegment(name, session)

    def options(self) -> onnxruntime.RunOptions:
        """Options of one call; setting `terminate` stops it within about a millisecond."""
        return onnxruntime.RunOptions()

    def _session_options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # An arena keeps the peak of the largest batch ever seen, once for every segment (20 times
        # the resident memory after one large batch), and saves no time that could be measured.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Blocks of weights meet activations that are rounded to int8 block by block, row by row.
        level = ROUNDED if self._precision in BLOCKS else EXACT
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", level)
        return options


class OnnxRuntimeSegment:
    """One segment. onnxruntime allows concurrent runs, so nothing is locked."""

    def __init__(self, name: str, session: onnxruntime.InferenceSession) -> None:
        self._name = name
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feeds: Mapping[str, ndarray], options: Any = None) -> dict[str, ndarray]:
        """Computes the outputs of the segment by name."""
        try:
            values = self._session.run(self._outputs, feeds, options)
        except Exception as error:
            raise translated(error, "onnxruntime", "run", self._name) from error
        return dict(zip(self._outputs, values, strict=True))


@contextmanager
def _reachable(weights: bytes | None, options: onnxruntime.SessionOptions) -> Iterator[None]:
    """Let a session that opens inside find `weights.bin` as it was checked, and no other file."""
    if weights is None:
        options.add_session_config_entry(EXTERNAL_FOLDER, NOWHERE)
        yield
    elif hasattr(options, "add_external_initializers_from_files_in_memory"):
        options.add_session_config_entry(EXTERNAL_FOLDER, NOWHERE)
        options.add_external_initializers_from_files_in_memory(
            [WEIGHTS_NAME], [weights], [len(weights)]
        )
        yield
    else:  # onnxruntime 1.23, the last one for Python 3.10: it maps the file, then we remove it
        with TemporaryDirectory(prefix="effbert-") as folder:
            Path(folder, WEIGHTS_NAME).write_bytes(weights)
            options.add_session_config_entry(EXTERNAL_FOLDER, folder)
            yield

"""Segments as OpenVINO models on the CPU."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import openvino
from numpy import ndarray
from openvino import Tensor

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.engines.failures import translated
from effbert.runtime.engines.forks import Unforked, keep_in_children
from effbert.runtime.engines.openvino.bfloat16 import HALF, from_bfloat16, to_bfloat16
from effbert.runtime.engines.openvino.rounded import prepare_rounded
from effbert.runtime.engines.passing_folder import passing_folder
from effbert.runtime.engines.protocol import (
    UNLIMITED,
    CannotJoinError,
    EngineSettings,
    RunnableChain,
)
from effbert.runtime.errors import EngineError, MissingDependencyError, UnsafeContentError

UNREADABLE = re.compile(
    r"(?:No conversion rule found for|does not support the following ONNX) operations: (.+)"
)
SOURCE_LINES = re.compile(r"^(Exception from src|Check .* failed at|FrontEnd API failed).*\n", re.M)
# The key that every reference to a file holds, and the value that makes it an address in memory.
REFERENCE, ADDRESS = b"location", b"_ORT_MEM_ADDR_"
SMALL_RANK = 2  # outputs of this rank are copied; hidden states have one axis more
ROUNDED = ("bf16", "int8")  # where bfloat16 is not what moves answers most
LOWEST = (2026, 3)
UNFORKED = Unforked()  # TBB has one lock for all models
FEW_BYTES = 1 << 20  # in and out; buffers of larger runs are worth giving back at once


class OpenVino:
    """Compiles segments for the CPU, with one stream each: a segment uses all threads at once."""

    limits = UNLIMITED
    chains = False
    measured_rows = None

    def __init__(self, settings: EngineSettings) -> None:
        settings.require_cpu("openvino")
        _require_version(openvino.__version__)
        keep_in_children(self)
        self._core = openvino.Core()
        self._rounded = settings.precision in ROUNDED
        self._core.set_property({"ENABLE_MMAP": False})  # weights are read from a passing file
        self._properties: dict[str, object] = {
            "NUM_STREAMS": 1,
            # The default is bfloat16 where the CPU has it, which moves answers in the 2nd decimal.
            "INFERENCE_PRECISION_HINT": "bf16" if self._rounded else "f32",
            # Pinned threads would take the cores of the host process's own models.
            "ENABLE_CPU_PINNING": False,
        }
        if settings.threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = settings.threads

    def load(self, name: str, model: bytes, weights: bytes | None) -> OpenVinoSegment:
        """Compile a segment from its checked bytes; see `Engine.load`."""
        if ADDRESS in model:
            raise UnsafeContentError(
                f"{name} refers to memory of this process, which no exporter writes; get the "
                "bundle again from where it was made."
            )
        try:
            with self._readable(model, weights) as source, UNFORKED:
                read = self._core.read_model(source)
                if self._rounded:
                    read = prepare_rounded(read)
                compiled = self._core.compile_model(read, "CPU", self._properties)
        except Exception as error:
            raise _explained(error, name) from error
        return OpenVinoSegment(name, read, compiled)

    def join(
        self, manifest: Manifest, files: Iterable[bytes], weights: bytes | None
    ) -> RunnableChain:
        """Refuse: a model of OpenVINO cannot branch as cheaply as its calls are made."""
        raise CannotJoinError("OpenVINO compiles every segment by itself")

    def options(self) -> OpenVinoCall:
        """Options of one call; setting `terminate` stops it within a few operators."""
        return OpenVinoCall()

    @contextmanager
    def _readable(self, model: bytes, weights: bytes | None) -> Iterator[bytes | Path]:
        """Give what to read and compile inside: the model, or a file of it beside its weights."""
        if REFERENCE not in model:
            yield model
            return
        # References are looked up beside the model, for a model in memory in the current folder:
        # here they can meet `weights.bin` as it was checked, and no other file. They may be looked
        # up while the model is compiled, too.
        with passing_folder() as folder:
            path = folder / "segment.onnx"
            path.write_bytes(model)
            if weights is not None:
                path.with_name(WEIGHTS_NAME).write_bytes(weights)
            yield path


class OpenVinoCall:
    """One call of a session: the request that runs for it can be stopped from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: openvino.InferRequest | None = None
        self._terminate = False

    @property
    def terminate(self) -> bool:
        """Whether the call is to stop."""
        return self._terminate

    @terminate.setter
    def terminate(self, value: bool) -> None:
        with self._lock:
            self._terminate = value
            if value and self._running is not None:
                self._running.cancel()

    def run(self, request: openvino.InferRequest) -> None:
        """Run a request that `terminate` cancels; with one thread `infer` would go on."""
        with self._lock:
            if self._terminate:
                raise RuntimeError("the call was stopped before")
            self._running = request
            request.start_async(share_inputs=True)
        try:
            request.wait()
        finally:
            with self._lock:
                self._running = None


def _require_version(version: str) -> None:
    """Refuse versions that answer wrongly, ALBERTs and models that label words among others.

    Raises:
        MissingDependencyError: The version is too old.
    """
    found = tuple(int(part) for part in version.split(".")[:2])
    if found < LOWEST:
        raise MissingDependencyError(
            f"OpenVINO {found[0]}.{found[1]} answers some models wrongly; install {LOWEST[0]}."
            f'{LOWEST[1]} or newer with: pip install "effbert[openvino]".'
        )


class OpenVinoSegment:
    """One segment. Every concurrent run has a request of its own, kept for the next run."""

    def __init__(self, name: str, model: openvino.Model, compiled: openvino.CompiledModel) -> None:
        keep_in_children(self)
        self._name = name
        self._compiled = compiled
        # Of the model as it was read: compiling merges tensors, and their names.
        self._inputs = {name: k for k, port in enumerate(model.inputs) for name in port.names}
        self._outputs = [(name, k) for k, port in enumerate(model.outputs) for name in port.names]
        self._halves = {
            k for k, port in enumerate(model.inputs) if port.element_type == openvino.Type.bf16
        }
        self._large = {
            k: (port.element_type, openvino.Shape([0] * len(port.partial_shape)))
            for k, port in enumerate(model.outputs)
            if len(port.partial_shape) > SMALL_RANK
        }
        self._idle: deque[openvino.InferRequest] = deque()

    def run(
        self, feeds: Mapping[str, ndarray], options: OpenVinoCall | None = None
    ) -> dict[str, ndarray]:
        """Compute the outputs of the segment by name."""
        try:
            with UNFORKED:
                request = self._unused_request()
                self._prepare(request, feeds)
                if options is None:
                    request.infer(share_outputs=True)
                else:
                    options.run(request)
                outputs = self._collected(request)
        except Exception as error:
            raise translated(error, "OpenVINO", "run", self._name) from error
        if sum(value.nbytes for value in (*feeds.values(), *outputs.values())) <= FEW_BYTES:
            self._idle.append(request)
            return outputs
        # The request goes, with its buffers; the model gives back its own unless it runs elsewhere.
        with suppress(RuntimeError):
            self._compiled.release_memory()
        return outputs

    def _unused_request(self) -> openvino.InferRequest:
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()

    def _prepare(self, request: openvino.InferRequest, feeds: Mapping[str, ndarray]) -> None:
        """Hands over the arrays as they are, and memory for large outputs.

        Copies, which is what `infer` makes of its arguments, take 0.2 ms a segment at batch 1.
        """
        for name, value in feeds.items():
            index = self._inputs[name]
            # Names other than an exporter's may lead what is narrow to where it is not.
            if index in self._halves:
                halves = value if value.dtype == HALF else to_bfloat16(value)
                tensor = Tensor(halves, openvino.Shape(halves.shape), openvino.Type.bf16)
            else:
                numbers = from_bfloat16(value) if value.dtype == HALF else value
                tensor = Tensor(numbers, shared_memory=numbers.flags.writeable)
            request.set_input_tensor(index, tensor)
        for index, empty in self._large.items():
            request.set_output_tensor(index, Tensor(*empty))

    def _collected(self, request: openvino.InferRequest) -> dict[str, ndarray]:
        """Return the outputs in memory that the next run leaves alone."""
        outputs = {}
        for name, index in self._outputs:
            tensor = request.get_output_tensor(index)
            value = tensor.data
            if tensor.element_type == openvino.Type.bf16:
                value = value.view(HALF)  # numpy has no bfloat16, and would read float16
            outputs[name] = value if index in self._large else value.copy()
        return outputs


def _explained(error: Exception, name: str) -> Exception:
    """Tell what was wrong with a segment, without where OpenVINO's source noticed it."""
    text = str(error)
    if found := UNREADABLE.search(text):
        return EngineError(
            f"OpenVINO cannot open {name}, it has no operator {found[1]}; use the engine "
            "onnxruntime."
        )
    return translated(RuntimeError(SOURCE_LINES.sub("", text)), "OpenVINO", "open", name)

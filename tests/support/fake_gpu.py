"""CUDA's runtime and TensorRT-RTX as far as plans use them: memory of the host, onnxruntime.

A plan is a prepared ONNX file. What the real libraries answer softly (False, None, codes) these do
too, so that the checks around each call can be seen to work.
"""

from __future__ import annotations

import ctypes
import enum
import math
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from effbert.runtime.engines.plans.executable import WIDTHS
from numpy_device import NAMES

VERSION = "1.2.3"
ENGINE_MODULES = (
    "effbert.runtime.engines.plans.cuda",
    "effbert.runtime.engines.plans.measured_rows",
    "effbert.runtime.engines.plans.plan_engine",
    "effbert.runtime.engines.tensorrt_rtx.engine",
    "effbert.runtime.engines.tensorrt.engine",
)


class Code(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorIllegalAddress = 700


class Kind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class Attribute(enum.IntEnum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


class FakeCuda(ModuleType):
    """`cuda.bindings.runtime`.

    Attributes:
        fails: Function -> the code that it returns.
        copies: (kind, bytes) of every copy.
        gpus: How many there are.
    """

    cudaError_t, cudaMemcpyKind, cudaDeviceAttr = Code, Kind, Attribute
    cudaStreamNonBlocking = 1

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.fails: dict[str, Code] = {}
        self.copies: list[tuple[Kind, int]] = []
        self.gpus = 1
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: set[int] = set()

    def code(self, name: str) -> Code:
        return self.fails.get(name, Code.cudaSuccess)

    def cudaGetDeviceCount(self) -> tuple[Code, int | None]:
        code = self.code("cudaGetDeviceCount")
        return code, self.gpus if code == 0 else None

    def cudaDriverGetVersion(self) -> tuple[Code, int]:
        return self.code("cudaDriverGetVersion"), 13000

    def cudaDeviceGetAttribute(self, attribute: Attribute, device: int) -> tuple[Code, int]:
        return self.code("cudaDeviceGetAttribute"), 8 if attribute == 75 else 6

    def cudaGetDeviceProperties(self, device: int) -> tuple[Code, Any]:
        return self.code("cudaGetDeviceProperties"), SimpleNamespace(name=b"A fake GPU\0\0")

    def cudaSetDevice(self, device: int) -> tuple[Code]:
        return (self.code("cudaSetDevice"),)

    def cudaMalloc(self, size: int) -> tuple[Code, int | None]:
        return self._allocated("cudaMalloc", self.memory, size)

    def cudaFree(self, address: int) -> tuple[Code]:
        del self.memory[address]
        return (self.code("cudaFree"),)

    def cudaMallocHost(self, size: int) -> tuple[Code, int | None]:
        return self._allocated("cudaMallocHost", self.pinned, size)

    def cudaFreeHost(self, address: int) -> tuple[Code]:
        del self.pinned[address]
        return (self.code("cudaFreeHost"),)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Code, int]:
        self.streams.add(stream := len(self.streams) + 1)
        return self.code("cudaStreamCreateWithFlags"), stream

    def cudaStreamDestroy(self, stream: int) -> tuple[Code]:
        return (self.code("cudaStreamDestroy"),)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Code]:
        return (self.code("cudaStreamSynchronize"),)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: Kind, stream: int) -> Any:
        code = self.code("cudaMemcpyAsync")
        if code == 0:
            self.copies.append((kind, size))
            ctypes.memmove(to, source, size)
        return (code,)

    def cudaGetErrorString(self, code: Code) -> tuple[Code, bytes]:
        return Code.cudaSuccess, f"what {int(code)} means".encode()

    def _allocated(self, name: str, where: dict[int, Any], size: int) -> tuple[Code, int | None]:
        if code := self.code(name):
            return code, None
        buffer = ctypes.create_string_buffer(b"\xff" * size, size + 1)
        where[ctypes.addressof(buffer)] = buffer
        return Code.cudaSuccess, ctypes.addressof(buffer)


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2


class ILogger:
    Severity = Severity


class FakeTensorRt(ModuleType):
    """`tensorrt_rtx`.

    Attributes:
        refuses: Functions that answer False or None.
        validity: What the library says of every plan.
        seen: Plans that it was given, whole or in part.
        kernels: What a runtime cache holds when it is serialized.
    """

    ILogger = ILogger
    __version__ = VERSION
    EngineValidity = enum.IntEnum("EngineValidity", "VALID SUBOPTIMAL INVALID", start=0)
    EngineInvalidityDiagnostics = enum.IntEnum(
        "EngineInvalidityDiagnostics", {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2}
    )
    CudaGraphStrategy = enum.IntEnum("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE", start=0)
    ExecutionContextAllocationStrategy = enum.IntEnum(
        "ExecutionContextAllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED", start=0
    )

    def __init__(self, name: str = "tensorrt_rtx") -> None:
        super().__init__(name)
        self.refuses: set[str] = set()
        self.validity: tuple[int, int] = (0, 0)
        self.seen: list[bytes] = []
        self.engines: list[FakeEngine] = []
        self.kernels = b"compiled kernels"
        self.restored: list[bytes] = []

    def Runtime(self, logger: Any) -> FakeRuntime:
        return FakeRuntime(self, logger)


class FakeRuntime:
    engine_header_size = 64

    def __init__(self, library: FakeTensorRt, logger: Any) -> None:
        self.library, self.logger = library, logger

    def get_engine_validity(self, header: bytes) -> tuple[int, int]:
        self.library.seen.append(header)
        return self.library.validity

    def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
        self.library.seen.append(plan)
        if "deserialize_cuda_engine" in self.library.refuses:
            self.logger.log(Severity.ERROR, "the plan is odd In deserialize at /_src/x.cpp:1")
            return None
        engine = FakeEngine(self.library, self.logger, plan)
        self.library.engines.append(engine)
        return engine


class FakeEngine:
    device_memory_size_v2 = 1000
    num_optimization_profiles = 1

    def __init__(self, library: FakeTensorRt, logger: Any, plan: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(plan, options)
        self.library, self.logger = library, logger
        graph = onnx.load_from_string(plan).graph
        self.axes = {
            item.name: [d.dim_param or d.dim_value for d in item.type.tensor_type.shape.dim]
            for item in (*graph.input, *graph.output)
        }
        self.inputs = [item.name for item in graph.input]
        self.names = list(self.axes)
        self.dtypes = {
            item.name: NAMES[item.type]
            for item in (*self.session.get_inputs(), *self.session.get_outputs())
        }
        self.configs: list[SimpleNamespace] = []
        self.contexts: list[FakeContext] = []

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name="INPUT" if name in self.inputs else "OUTPUT")

    def create_runtime_config(self) -> Any:
        library = self.library
        kernels = SimpleNamespace(
            deserialize=lambda data: library.restored.append(data) or True,
            serialize=lambda: library.kernels,
        )
        config = SimpleNamespace(
            create_runtime_cache=lambda: kernels,
            set_runtime_cache=lambda cache: True,
            set_execution_context_allocation_strategy=lambda strategy: None,
        )
        self.configs.append(config)
        return config

    def create_execution_context(self, config: Any) -> FakeContext | None:
        if "create_execution_context" in self.library.refuses:
            self.logger.log(Severity.ERROR, "no kernels")
            return None
        self.contexts.append(FakeContext(self))
        return self.contexts[-1]


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.memory = (0, 0)
        self.profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.bound = 0  # calls that set a shape or an address

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2
        self.memory = (address, size)

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return self._ok("set_optimization_profile_async")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name not in self.engine.inputs:
            return False
        self.shapes[name] = tuple(shape)
        self.bound += 1
        return self._ok("set_input_shape")

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        self.bound += 1
        return self._ok("set_tensor_address")

    def infer_shapes(self) -> list[str]:
        missing = [name for name in self.engine.inputs if name not in self.addresses]
        if "infer_shapes" in self.engine.library.refuses:
            missing.append("something")
        if "shapes" in self.engine.library.refuses:
            raise RuntimeError("shape inference failed\nin a node")
        if not missing:
            self.found = self._compute()
        return missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if "get_tensor_shape" in self.engine.library.refuses:
            return (-1,)
        return self.found[name].shape

    def execute_async_v3(self, stream: int) -> bool:
        if not self._ok("execute_async_v3"):
            return False
        for name, value in self._compute().items():
            flat = np.ascontiguousarray(value)
            ctypes.memmove(self.addresses[name], flat.ctypes.data, flat.nbytes)
        return True

    def _compute(self) -> dict[str, np.ndarray]:
        engine = self.engine
        names = [item.name for item in engine.session.get_inputs()]
        feeds = {}
        for name in names:
            shape, dtype = self.shapes[name], engine.dtypes[name]
            size = math.prod(shape) * WIDTHS[dtype]
            data = ctypes.string_at(self.addresses[name], size)
            feeds[name] = np.frombuffer(data, dtype).reshape(shape)
        outputs = [name for name in engine.names if name not in engine.inputs]
        return dict(zip(outputs, engine.session.run(outputs, feeds), strict=True))

    def _ok(self, name: str) -> bool:
        if name not in self.engine.library.refuses:
            return True
        self.engine.logger.log(Severity.ERROR, name)
        return False


class Gpu:
    """The libraries that a test sees instead of the real ones."""

    def __init__(self) -> None:
        self.cuda = FakeCuda()
        self.tensorrt = FakeTensorRt()


def install(patch: pytest.MonkeyPatch) -> Gpu:
    """Let engines with plans import the fake libraries, and be imported anew."""
    gpu = Gpu()
    bindings, cuda = ModuleType("cuda.bindings"), ModuleType("cuda")
    bindings.runtime, cuda.bindings = gpu.cuda, bindings  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "cuda", cuda)
    patch.setitem(sys.modules, "cuda.bindings", bindings)
    patch.setitem(sys.modules, "cuda.bindings.runtime", gpu.cuda)
    patch.setitem(sys.modules, "tensorrt_rtx", gpu.tensorrt)
    for name in ENGINE_MODULES:
        patch.setitem(sys.modules, name, cuda)  # so that what replaces it goes with the patch
        del sys.modules[name]
    return gpu

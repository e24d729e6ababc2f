"""A device in numpy, with onnxruntime as the engine: the chain of plans runs without a GPU.

Work is done when a stream is synchronized, never before, so memory that is used again too early
shows as wrong answers. New and freed memory is full of NaN.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping

import ml_dtypes  # noqa: F401  # gives numpy the name bfloat16
import numpy as np
import onnx
import onnxruntime

from effbert.runtime.engines.plans.executable import WIDTHS, Feed, Shape
from effbert.runtime.errors import EngineError, ResourceError

NAN = 0xFF
NAMES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class NumpyDevice:
    """Memory of a device as arrays; counts what crosses to and from the host.

    Attributes:
        uploads, downloads: (address, bytes) of every copy.
        memory: Bytes that it has; more is ResourceError.
        fails: Raised by the next synchronization, if set.
    """

    def __init__(self, memory: int = 1 << 30) -> None:
        self.memory = memory
        self.uploads: list[tuple[int, int]] = []
        self.downloads: list[tuple[int, int]] = []
        self.fails: Exception | None = None
        self.streams: dict[int, list[Callable[[], None]]] = {}
        self.blocks: dict[int, np.ndarray] = {}
        self.pinned: list[np.ndarray] = []
        self._next = 1 << 20
        self._lock = threading.RLock()

    def activate(self) -> None:
        pass

    def allocate(self, size: int) -> int:
        with self._lock:
            if sum(block.nbytes for block in self.blocks.values()) + size > self.memory:
                raise ResourceError(f"no {size} bytes are left on the device")
            address, self._next = self._next, self._next + size + (-size % 256) + 256
            self.blocks[address] = np.full(max(size, 1), NAN, np.uint8)
            return address

    def free(self, address: int) -> None:
        with self._lock:
            self.blocks.pop(address).fill(NAN)

    def pin(self, size: int) -> np.ndarray:
        self.pinned.append(np.full(max(size, 1), NAN, np.uint8))
        return self.pinned[-1]

    def unpin(self, memory: np.ndarray) -> None:
        [found] = [k for k, item in enumerate(self.pinned) if item is memory]
        self.pinned.pop(found).fill(NAN)

    def open_stream(self) -> int:
        with self._lock:
            stream = len(self.streams) + 1
            self.streams[stream] = []
            return stream

    def close_stream(self, stream: int) -> None:
        self.streams[stream] = []

    def upload(self, address: int, source: np.ndarray, stream: int) -> None:
        self.uploads.append((address, source.nbytes))
        self.queue(stream, lambda: np.copyto(self.view(address, source.nbytes), source))

    def download(self, target: np.ndarray, address: int, stream: int) -> None:
        self.downloads.append((address, target.nbytes))
        self.queue(stream, lambda: np.copyto(target, self.view(address, target.nbytes)))

    def synchronize(self, stream: int) -> None:
        work, self.streams[stream] = self.streams[stream], []
        for step in work:
            step()
        if self.fails is not None:
            failure, self.fails = self.fails, None
            raise failure

    def queue(self, stream: int, step: Callable[[], None]) -> None:
        self.streams[stream].append(step)

    def view(self, address: int, size: int) -> np.ndarray:
        """Memory from an address on, all of which one block must hold."""
        with self._lock:
            starts = sorted(self.blocks)
            start = starts[bisect_right(starts, address) - 1]
            block = self.blocks[start]
        assert address - start + size <= block.nbytes, "outside the block"
        return block[address - start : address - start + size]

    def read(self, address: int, shape: Shape, dtype: str) -> np.ndarray:
        size = math.prod(shape) * WIDTHS[dtype]
        return self.view(address, size).view(dtype).reshape(shape)


class NumpyPlan:
    """A prepared graph that onnxruntime computes; see `Executable`."""

    scratch = 4096

    def __init__(self, model: bytes, device: NumpyDevice) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.device = device
        self.profiles: list[int] = []
        graph = onnx.load_from_string(model).graph
        self.inputs = {item.name: _axes(item) for item in graph.input}
        self.outputs = {item.name: _axes(item) for item in graph.output}
        self.dtypes = {
            item.name: NAMES[item.type]
            for item in (*self.session.get_inputs(), *self.session.get_outputs())
        }

    def context(self, scratch: int, size: int) -> NumpyContext:
        assert size >= self.scratch
        self.device.view(scratch, size)
        return NumpyContext(self)


class NumpyContext:
    def __init__(self, plan: NumpyPlan) -> None:
        self.plan = plan
        self.busy = threading.Lock()

    def prepare(
        self,
        profile: int,
        feeds: Mapping[str, Feed],
        values: Mapping[str, np.ndarray],
        stream: int,
    ) -> dict[str, Shape]:
        assert {*feeds, *values} == set(self.plan.inputs)
        self.plan.profiles.append(profile)
        self.feeds, self.values = dict(feeds), dict(values)
        extents: dict[str, int] = {}
        for name, feed in feeds.items():
            for axis, extent in zip(self.plan.inputs[name], feed.shape, strict=True):
                if isinstance(axis, str):
                    assert extents.setdefault(axis, extent) == extent, f"{name}: {axis}"
                else:
                    assert axis == extent, name
        shapes = {
            name: tuple(extents.get(axis, axis) for axis in axes)  # type: ignore[arg-type]
            for name, axes in self.plan.outputs.items()
        }
        if any(isinstance(axis, str) for shape in shapes.values() for axis in shape):
            self.plan.device.synchronize(stream)  # the graph has to run to tell
            shapes = {name: value.shape for name, value in self.compute().items()}
        return shapes

    def launch(self, outputs: Mapping[str, int], stream: int) -> None:
        assert set(outputs) == set(self.plan.outputs)
        feeds, values = self.feeds, self.values

        def work() -> None:
            assert self.busy.acquire(blocking=False), "two calls at once in one context"
            try:
                self.feeds, self.values = feeds, values
                for name, value in self.compute().items():
                    flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
                    np.copyto(self.plan.device.view(outputs[name], flat.size), flat)
            finally:
                self.busy.release()

        self.plan.device.queue(stream, work)

    def compute(self) -> dict[str, np.ndarray]:
        plan = self.plan
        arrays = {
            name: plan.device.read(feed.address, feed.shape, plan.dtypes[name]).copy()
            for name, feed in self.feeds.items()
        }
        wanted = {item.name for item in plan.session.get_inputs()}
        arrays |= {name: value.reshape(()) for name, value in self.values.items()}
        names = list(plan.outputs)
        try:
            found = plan.session.run(names, {k: v for k, v in arrays.items() if k in wanted})
        except Exception as error:
            raise EngineError(f"the double could not run: {error}") from error
        return dict(zip(names, found, strict=True))


def _axes(item: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim]

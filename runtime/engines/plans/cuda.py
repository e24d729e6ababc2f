"""A GPU of NVIDIA through CUDA's runtime library; every return code is looked at."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy import ndarray

from effbert.runtime.engines.devices import gpu_index
from effbert.runtime.errors import (
    EngineError,
    InputError,
    MissingDependencyError,
    ResourceError,
)

try:
    from cuda.bindings import runtime as cudart
except ImportError as error:
    raise MissingDependencyError(
        f"Plans run through the package cuda-bindings, which cannot be imported ({error}); install "
        'it with: pip install "effbert[tensorrt-rtx]".'
    ) from error

SUCCESS = cudart.cudaError_t.cudaSuccess
OUT_OF_MEMORY = cudart.cudaError_t.cudaErrorMemoryAllocation
TO_DEVICE = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
TO_HOST = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
MAJOR = cudart.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor
MINOR = cudart.cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor


class CudaDevice:
    """One GPU; see `Device`.

    Attributes:
        name: Such as "cuda:0".
        model: What NVIDIA calls it.
        capability: Such as "sm86".
        driver: Version of CUDA that the driver supports, such as 13000.
    """

    def __init__(self, name: str | None = None) -> None:
        """Choose a GPU; None is the first.

        Raises:
            InputError: `name` is not of the form "cuda" or "cuda:N", or there is no such GPU.
            EngineError: There is no driver or no GPU.
        """
        self._index = gpu_index(name)
        self.name = f"cuda:{self._index}"
        count = count_gpus()
        if self._index >= count:
            raise InputError(
                f"There is no device {self.name!r}: this machine has {count} GPU(s), the first is "
                "'cuda:0'."
            )
        self.driver = int(_checked("ask for the driver", *cudart.cudaDriverGetVersion()))
        properties = _checked("ask for the GPU", *cudart.cudaGetDeviceProperties(self._index))
        self.model = bytes(properties.name).rstrip(b"\0").decode(errors="replace")
        self.capability = f"sm{self._attribute(MAJOR)}{self._attribute(MINOR)}"

    def activate(self) -> None:
        """Let what this thread does next happen on this GPU."""
        _checked("choose the GPU", *cudart.cudaSetDevice(self._index))

    def allocate(self, size: int) -> int:
        """Allocate memory; cudaMalloc aligns it to 256 bytes at least."""
        action = f"allocate {size} bytes on the GPU"
        return int(_checked(action, *cudart.cudaMalloc(max(size, 1))))

    def free(self, address: int) -> None:
        """Free memory of the GPU."""
        _checked("free memory of the GPU", *cudart.cudaFree(address))

    def pin(self, size: int) -> ndarray:
        """Allocate page-locked memory of the host."""
        size = max(size, 1)
        address = int(_checked(f"pin {size} bytes", *cudart.cudaMallocHost(size)))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def unpin(self, memory: ndarray) -> None:
        """Free page-locked memory."""
        _checked("free pinned memory", *cudart.cudaFreeHost(memory.ctypes.data))

    def open_stream(self) -> int:
        """Open a stream that does not wait for the default one."""
        flags = cudart.cudaStreamNonBlocking
        return int(_checked("open a stream", *cudart.cudaStreamCreateWithFlags(flags)))

    def close_stream(self, stream: int) -> None:
        """Close a stream."""
        _checked("close a stream", *cudart.cudaStreamDestroy(stream))

    def upload(self, address: int, source: ndarray, stream: int) -> None:
        """Begin to copy pinned memory to the GPU."""
        found = cudart.cudaMemcpyAsync(
            address, source.ctypes.data, source.nbytes, TO_DEVICE, stream
        )
        _checked("copy to the GPU", *found)

    def download(self, target: ndarray, address: int, stream: int) -> None:
        """Begin to copy memory of the GPU to pinned memory."""
        found = cudart.cudaMemcpyAsync(target.ctypes.data, address, target.nbytes, TO_HOST, stream)
        _checked("copy from the GPU", *found)

    def synchronize(self, stream: int) -> None:
        """Wait for the stream; what failed on it before is raised here."""
        _checked("run on the GPU", *cudart.cudaStreamSynchronize(stream))

    def _attribute(self, attribute: Any) -> int:
        found = cudart.cudaDeviceGetAttribute(attribute, self._index)
        return int(_checked("ask what the GPU can do", *found))


def count_gpus() -> int:
    """Count the GPUs.

    Raises:
        EngineError: There is no driver, an old one, or no GPU.
    """
    code, count = cudart.cudaGetDeviceCount()
    if code != SUCCESS or not count:
        reason = "no GPU was found" if code == SUCCESS else _text(code)
        raise EngineError(
            f"Plans run on a GPU of NVIDIA, and CUDA cannot use one here ({reason}); install or "
            "update NVIDIA's driver, or choose an engine for the CPU: --engine onnxruntime."
        )
    return int(count)


def _checked(action: str, code: Any, value: Any = None) -> Any:
    """Return the value of a call, or raise what its code means."""
    if code == SUCCESS:
        return value
    if code == OUT_OF_MEMORY:
        raise ResourceError(
            f"The GPU's memory ran out: could not {action}; send fewer rows in one call, or free "
            "memory of the GPU."
        )
    raise EngineError(f"CUDA could not {action}: {_text(code)}.")


def _text(code: Any) -> str:
    found, text = cudart.cudaGetErrorString(code)
    name = getattr(code, "name", str(code))
    return f"{name}, {text.decode(errors='replace')}" if found == SUCCESS and text else name

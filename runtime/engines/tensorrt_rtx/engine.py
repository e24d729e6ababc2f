"""Plans of TensorRT-RTX: kernels are compiled on the GPU that runs them, and kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import tensorrt_rtx

from effbert.runtime.engines.plans.jit_cache import JitCache
from effbert.runtime.engines.plans.plan_engine import PlanEngine
from effbert.runtime.engines.protocol import EngineSettings
from effbert.runtime.errors import EffbertWarning, EngineError

LANES = 4  # calls that compute at the same time; others wait
CALLER = 3


class TensorRtRtx(PlanEngine):
    """Runs plans with TensorRT-RTX, which captures CUDA graphs of whole segments by itself."""

    name = "tensorrt-rtx"
    lanes = LANES

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings, tensorrt_rtx)
        self._caches: list[tuple[JitCache, Any]] = []

    def _require_valid(self, file: str, plan: bytes) -> None:
        """Ask the library whether a plan fits this version, GPU and driver."""
        header = plan[: self._runtime.engine_header_size]
        validity, diagnostics = self._runtime.get_engine_validity(header)
        if validity == tensorrt_rtx.EngineValidity.VALID:
            return
        reasons = _spelled(int(diagnostics))
        if validity == tensorrt_rtx.EngineValidity.SUBOPTIMAL and not self._settings.strict:
            warnings.warn(
                f"The plan of {file} is slower on this GPU than one compiled for it ({reasons}).",
                EffbertWarning,
                stacklevel=CALLER,
            )
            return
        raise EngineError(
            f"The plan of {file} does not run here ({reasons}); compile it again with: effbert "
            f"compile BUNDLE --engine {self.name}."
        )

    def _context_maker(self, file: str, engine: Any, plan_hash: str) -> Callable[[], Any]:
        """Prepare a configuration with kept kernels, CUDA graphs and memory from outside."""
        config = engine.create_runtime_config()
        if config is None:
            raise self._failed("configure", file)
        config.set_execution_context_allocation_strategy(
            tensorrt_rtx.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        config.cuda_graph_strategy = tensorrt_rtx.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        kept = JitCache(
            plan_hash,
            tensorrt_rtx.__version__,
            self._device.model,
            self._device.capability,
            self._device.driver,
        )
        kernels = config.create_runtime_cache()
        if kernels is not None:
            if data := kept.read():
                kernels.deserialize(data)  # False: of another version, GPU or driver
            if config.set_runtime_cache(kernels):
                self._caches.append((kept, kernels))
        return lambda: engine.create_execution_context(config)

    def _keep_kernels(self) -> None:
        """Keep the kernels that were compiled up to now."""
        for kept, kernels in self._caches:
            with suppress(RuntimeError):
                data = kernels.serialize()
                if data is not None:
                    kept.write(bytes(data))


def _spelled(diagnostics: int) -> str:
    """Name the bits of `EngineInvalidityDiagnostics`."""
    names = [
        name.replace("_", " ").lower()
        for name, bit in tensorrt_rtx.EngineInvalidityDiagnostics.__members__.items()
        if int(bit) & diagnostics
    ]
    return ", ".join(names) or "TensorRT-RTX gives no reason"

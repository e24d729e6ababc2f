"""Plans of TensorRT 10 and 11, built on the kind of GPU that runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorrt

from effbert.runtime.engines.plans.plan_engine import PlanEngine
from effbert.runtime.engines.protocol import EngineSettings

# With dynamic shapes, contexts that compute at the same time need a profile each, and every plan
# has a profile once: calls wait for each other.
LANES = 1


class TensorRt(PlanEngine):
    """Runs plans with TensorRT, the one of data centres and Jetsons."""

    name = "tensorrt"
    lanes = LANES

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings, tensorrt)

    def _require_valid(self, file: str, plan: bytes) -> None:
        """Do nothing: TensorRT says it when it opens the plan."""

    def _keep_kernels(self) -> None:
        """Do nothing: kernels are part of the plan."""

    def _context_maker(self, file: str, engine: Any, plan_hash: str) -> Callable[[], Any]:
        """Let contexts compute in memory from outside."""
        if hasattr(engine, "create_execution_context_without_device_memory"):  # before 11
            create: Callable[[], Any] = engine.create_execution_context_without_device_memory
            return create
        strategy = tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED
        return lambda: engine.create_execution_context(strategy)

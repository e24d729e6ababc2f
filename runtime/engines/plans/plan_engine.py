"""What the engines that run plans share: everything but their library's own calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.engines.forks import keep_in_children
from effbert.runtime.engines.plans.chain import PlanChain
from effbert.runtime.engines.plans.cuda import CudaDevice
from effbert.runtime.engines.plans.fitting import shape_limits
from effbert.runtime.engines.plans.found import FoundPlan, Wanted, find_plans
from effbert.runtime.engines.plans.measured_rows import MeasuredRows
from effbert.runtime.engines.plans.tensorrt_plan import TensorRtPlan, make_logger
from effbert.runtime.engines.plans.warm_up import warm_up
from effbert.runtime.engines.protocol import UNLIMITED, EngineSettings, Runnable, ShapeLimits
from effbert.runtime.errors import EngineError


class StopFlag:
    """Options of one call: it stops before its next segment once `terminate` is set."""

    terminate = False


class PlanEngine(ABC):
    """Opens compiled plans, and chains them on the device; see `Engine` and `CompiledEngine`.

    Attributes:
        name: Of the engine.
        lanes: Calls that may compute at the same time.
    """

    name: str
    lanes: int
    chains = True

    def __init__(self, settings: EngineSettings, library: Any) -> None:
        """Find the GPU and start the library.

        Args:
            settings: What is asked of the engine.
            library: TensorRT's module.
        """
        keep_in_children(self)
        self._settings = settings
        self._library = library
        self._device = CudaDevice(settings.device)
        self._device.activate()
        self._logger, self._messages = make_logger(library)
        self._runtime = library.Runtime(self._logger)
        self._rows: MeasuredRows | None = None
        self.limits: ShapeLimits = UNLIMITED
        self.measured_rows: float | None = None
        self.compute = "fp32"

    def load(self, name: str, model: bytes, weights: bytes | None) -> Runnable:
        """Refuse: plans are opened by `join`, all at once."""
        raise NotImplementedError(f"{name} is chained")

    def join(self, manifest: Manifest, files: Iterable[bytes], weights: bytes | None) -> PlanChain:
        """Open the plans of all segments; their ONNX files are not read."""
        found = find_plans(manifest, self._wanted(), self._settings.folder)
        executables = [self._opened(plan) for plan in found.plans]
        signatures = [plan.signature for plan in found.plans]
        self.compute = found.compute
        self.limits = shape_limits(signatures)
        self._rows = MeasuredRows(found, self._device)
        self.measured_rows = self._rows.read()
        chain = PlanChain(
            manifest, signatures, executables, self._device, self.lanes, self._keep_kernels
        )
        warm_up(manifest, signatures, chain)
        self._keep_kernels()
        return chain

    def options(self) -> StopFlag:
        """Options of one call; setting `terminate` stops it between two segments."""
        return StopFlag()

    def keep_rows(self, difference: float) -> None:
        """Remember beside the plans what was measured."""
        if self._rows is not None:
            self._rows.write(difference)
            self.measured_rows = difference

    def _wanted(self) -> Wanted:
        return Wanted(self.name, str(self._library.__version__), self._device.capability)

    def _opened(self, plan: FoundPlan) -> TensorRtPlan:
        data = plan.read()
        self._messages.clear()
        self._require_valid(plan.file, data)
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise self._failed("open", plan.file)
        opened = TensorRtPlan(
            plan.file, engine, self._context_maker(plan.file, engine, plan.sha256), self._messages
        )
        if opened.profiles != len(plan.signature.profiles):
            raise EngineError(
                f"The plan of {plan.file} has {opened.profiles} profiles, its index lists "
                f"{len(plan.signature.profiles)}; compile the bundle again."
            )
        return opened

    def _failed(self, action: str, file: str) -> EngineError:
        return EngineError(
            f"{self.name} could not {action} the plan of {file}: {self._messages.last()}; compile "
            f"it again on this machine's version with: effbert compile BUNDLE --engine {self.name}."
        )

    @abstractmethod
    def _require_valid(self, file: str, plan: bytes) -> None:
        """Refuse a plan of which the library knows before it opens it that it does not run here."""

    @abstractmethod
    def _context_maker(self, file: str, engine: Any, plan_hash: str) -> Callable[[], Any]:
        """Return what creates a context of a plan, without memory of its own."""

    @abstractmethod
    def _keep_kernels(self) -> None:
        """Keep what the library compiled on this GPU up to now."""

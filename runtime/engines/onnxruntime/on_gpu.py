"""onnxruntime's providers for NVIDIA GPUs, as engines of their own: never a run on the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import onnxruntime
from onnxruntime import InferenceSession

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.engines.devices import gpu_index
from effbert.runtime.engines.failures import translated
from effbert.runtime.engines.onnxruntime.device_chain import DeviceChain, Takes
from effbert.runtime.engines.onnxruntime.engine import ERRORS_ONLY, quiet_options, reachable
from effbert.runtime.engines.protocol import UNLIMITED, EngineSettings, Runnable
from effbert.runtime.errors import EngineError, MissingDependencyError


class OnnxRuntimeCuda:
    """Opens segments with the CUDA provider, and chains them on the GPU; see `Engine`.

    Attributes:
        name: Of the engine.
        providers: Those it must have, the one that computes first.
        device: Where carries stay.
    """

    name = "onnxruntime-cuda"
    providers: ClassVar[tuple[str, ...]] = ("CUDAExecutionProvider",)
    device = "cuda"
    limits = UNLIMITED
    chains = True
    measured_rows = None

    def __init__(self, settings: EngineSettings) -> None:
        self._index = gpu_index(settings.device)
        there = onnxruntime.get_available_providers()
        if missing := [name for name in self.providers if name not in there]:
            raise MissingDependencyError(
                f"Engine {self.name!r} needs onnxruntime's {missing[0]}, and this onnxruntime has "
                f"only {', '.join(there)}; replace it: pip uninstall onnxruntime, then pip install "
                '"effbert[gpu]".'
            )

    def load(self, name: str, model: bytes, weights: bytes | None) -> Runnable:
        """Refuse: segments are opened by `join`, all at once."""
        raise NotImplementedError(f"{name} is chained")

    def join(
        self, manifest: Manifest, files: Iterable[bytes], weights: bytes | None
    ) -> DeviceChain:
        """Open every segment on the GPU."""
        sessions = [
            self._opened(segment.file, model, weights)
            for segment, model in zip(manifest.segments, files, strict=True)
        ]
        takes = Takes(lambda model: self._opened("rows", model, None), self.device, self._index)
        return DeviceChain(manifest, sessions, takes, self.device, self._index)

    def options(self) -> onnxruntime.RunOptions:
        """Options of one call; setting `terminate` stops it."""
        return quiet_options()

    def _opened(self, file: str, model: bytes, weights: bytes | None) -> InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.add_session_config_entry("session.force_spinning_stop", "1")
        providers = [(name, self._provider_options(name)) for name in self.providers]
        try:
            with reachable(weights, options):
                session = InferenceSession(model, options, providers=providers, enable_fallback=0)
        except Exception as error:
            raise translated(error, "onnxruntime", "open", file) from error
        session._model_bytes = None
        opened = session.get_providers()
        if [*opened[: len(self.providers)]] != [*self.providers]:
            # It only warns where a library of the provider is missing, and goes on with the CPU.
            raise EngineError(
                f"onnxruntime opened {file} with {', '.join(opened)}, not with "
                f"{self.providers[0]}: a library that it needs, or the GPU, is missing; see what "
                "onnxruntime writes to stderr, or choose an engine for the CPU."
            )
        return session

    def _provider_options(self, name: str) -> dict[str, Any]:
        """Choose the device, and products that do not round their factors to TF32."""
        options: dict[str, Any] = {"device_id": str(self._index)}
        if name == "CUDAExecutionProvider":
            options["use_tf32"] = "0"
        return options


class OnnxRuntimeTensorRt(OnnxRuntimeCuda):
    """Opens segments with the TensorRT provider, and CUDA for what that does not compute.

    It builds its engines when the bundle is opened and for new shapes. Nothing is kept: an engine
    is code, and onnxruntime's cache checks none of it.
    """

    name = "onnxruntime-tensorrt"
    providers = ("TensorrtExecutionProvider", "CUDAExecutionProvider")

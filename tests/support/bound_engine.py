"""The engine for onnxruntime on GPUs, with the CPU in the place of the GPU."""

from __future__ import annotations

from typing import ClassVar

import pytest

from effbert.runtime.engines.onnxruntime.on_gpu import OnnxRuntimeCuda
from effbert.runtime.engines.row_independence import DIFFERENCES
from effbert.runtime.engines.table import ENGINES, Entry

NAME = "bound on the CPU"


class Bound(OnnxRuntimeCuda):
    name = NAME
    providers: ClassVar[tuple[str, ...]] = ("CPUExecutionProvider",)
    device = "cpu"

    def _provider_options(self, name: str) -> dict[str, str]:
        return {}


def register(patch: pytest.MonkeyPatch) -> None:
    """Let sessions open the engine `NAME`."""
    patch.setitem(ENGINES, NAME, Entry("bound_engine:Bound", "onnxruntime", "", on_request=True))
    patch.setitem(DIFFERENCES, (NAME, "fp32"), 0.0)

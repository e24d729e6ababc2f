"""What of TensorRT-RTX and cuda-bindings can be tried without a GPU: the functions that we call."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from effbert.runtime.engines.plans import tensorrt_plan
from effbert.runtime.engines.plans.tensorrt_plan import make_logger

ROOT = Path(__file__).resolve().parents[4] / "runtime" / "engines"


@pytest.fixture(scope="module")
def trt() -> Any:
    return pytest.importorskip("tensorrt_rtx")


def test_every_function_that_is_called_exists(trt: Any) -> None:
    plan = Path(tensorrt_plan.__file__).read_text()
    own = (ROOT / "tensorrt_rtx" / "engine.py").read_text()
    calls = {
        trt.IExecutionContext: re.findall(r"\bcontext\.(\w+)\(", plan),
        trt.ICudaEngine: re.findall(r"\bengine\.(\w+)\b", plan + own),
        trt.IRuntimeConfig: re.findall(r"\bconfig\.(\w+)\b", own),
        trt.IRuntimeCache: re.findall(r"\bkernels\.(\w+)\(", own),
        trt.Runtime: re.findall(r"\b_runtime\.(\w+)\b", own),
        trt: re.findall(r"\btensorrt_rtx\.([A-Z]\w+)\b", own),
    }
    for owner, names in calls.items():
        assert names, owner
        for name in names:
            if name not in ("runtime", "engine", "plans"):
                assert hasattr(owner, name), f"{owner} has no {name}"


def test_what_the_library_logs_is_the_reason(trt: Any) -> None:
    logger, messages = make_logger(trt)
    runtime = trt.Runtime(logger)
    assert messages.last() == "no reason given"
    assert runtime.deserialize_cuda_engine(b"no plan" * 100) is None
    assert "\n" not in messages.last()
    assert "/_src/" not in messages.last()
    assert messages.last() != "no reason given"
    messages.clear()
    assert messages.last() == "no reason given"


def test_every_function_of_cuda_that_is_called_exists() -> None:
    cudart = pytest.importorskip("cuda.bindings.runtime")
    names = re.findall(r"\bcudart\.(\w+)", (ROOT / "plans" / "cuda.py").read_text())
    assert len(set(names)) > 15
    for name in names:
        assert hasattr(cudart, name), name

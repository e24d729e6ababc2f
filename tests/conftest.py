import sys
from collections.abc import Iterator

import pytest

import trace_cache


@pytest.fixture(scope="session", autouse=True)
def traces() -> Iterator[None]:
    """Exports take their traces from the disk, where torch was imported by a test."""
    if "torch" not in sys.modules:
        yield
        return
    trace_cache.forget_the_oldest()
    with trace_cache.tracing_with(trace_cache.through_disk(trace_cache.original())):
        yield


@pytest.fixture
def fresh_traces() -> Iterator[None]:
    """Every export of a test traces its model itself."""
    with trace_cache.tracing_with(trace_cache.original()):
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("requires_gpu") and not has_cuda():
        pytest.skip("needs an NVIDIA GPU and onnxruntime's CUDA provider")


def has_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()

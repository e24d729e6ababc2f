from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest

import trace_cache

if TYPE_CHECKING:
    from effbert.runtime import Bundle
    from systems.case import Case, ExportedCase


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


@pytest.fixture(scope="session")
def exported_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], ExportedCase]:
    """A case of the contract suite -> its bundle, exported once."""
    from systems.case import export_case  # which imports torch

    known: dict[str, ExportedCase] = {}

    def find(case: Case) -> ExportedCase:
        if case.name not in known:
            known[case.name] = export_case(case, tmp_path_factory.mktemp("case"))
        return known[case.name]

    return find


@pytest.fixture(scope="module")
def model(
    request: pytest.FixtureRequest, exported_case: Callable[[Case], ExportedCase]
) -> ExportedCase:
    """The bundle of the case that `systems.cases` parametrizes a test with."""
    return exported_case(request.param)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("requires_gpu") and (reason := no_gpu()):
        pytest.skip(reason)


@cache
def no_gpu() -> str | None:
    """Why tests that need a GPU cannot run here; None if they can."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        return f"needs an NVIDIA GPU and cuda-bindings ({error})"
    code, count = runtime.cudaGetDeviceCount()
    if code != runtime.cudaError_t.cudaSuccess or not count:
        return f"needs an NVIDIA GPU (CUDA says {code.name}, and counts {count or 0})"
    return None


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """A name of `small_bundles.SMALL`, or of a case of the contract suite -> its bundle."""
    from effbert.runtime import open_bundle
    from small_bundles import export_small  # which imports torch

    known: dict[str, Bundle] = {}

    def find(name: str) -> Bundle:
        if name not in known:
            known[name] = open_bundle(export_small(name, tmp_path_factory.mktemp("small")))
        return known[name]

    return find

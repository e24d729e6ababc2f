"""The chain's tests run with the engines that are installed, with plans on a numpy
device, and with values that onnxruntime keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import bound_engine
import plan_chains
from effbert.runtime import Session
from effbert.runtime.engines.table import installed_engines


@pytest.fixture(scope="session", params=[*installed_engines(), plan_chains.NAME, bound_engine.NAME])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine in turn."""
    return request.param


@pytest.fixture(scope="session")
def engine_sessions(bundles: dict[str, Path], engine: str) -> Iterator[dict[str, Session]]:
    """A session on each of `bundles`, with every engine in turn."""
    with pytest.MonkeyPatch.context() as patch:
        plan_chains.register(patch)
        bound_engine.register(patch)
        found = {name: Session(path, engine, threads=1) for name, path in bundles.items()}
    yield found
    for session in found.values():
        session.close()


@pytest.fixture(autouse=True)
def plans(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a test open plans on a numpy device, by this name."""
    plan_chains.register(monkeypatch)
    bound_engine.register(monkeypatch)
    return plan_chains.NAME

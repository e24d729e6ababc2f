"""Plans of tiny bundles, and libraries that stand in for those of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fake_gpu
import plan_chains
import plan_folders
import tiny_bundle
from effbert.runtime import Session
from fake_gpu import Gpu
from tiny_bundle import build_tiny_bundle


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's data and cache that only this test has."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def gpu(own_folders: None, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """A GPU with CUDA and TensorRT-RTX, all of them fakes."""
    return fake_gpu.install(monkeypatch)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle; not to be changed."""
    return build_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture
def compiled(tiny: Path, own_folders: None, tmp_path: Path) -> Path:
    """Plans of the tiny bundle, trusted."""
    return plan_folders.write_plans(tiny, tmp_path / "plans")


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle with six exits, whose policy carries states."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_bundle, "EXITS", plan_chains.DEEP)
        folder = tmp_path_factory.mktemp("deep") / "bundle"
        return build_tiny_bundle(folder, policy="patience")


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> str:
    plan_chains.register(monkeypatch)
    return plan_chains.NAME


@pytest.fixture
def session(deep: Path, plans: str) -> Iterator[Session]:
    with Session(deep, plans) as found:
        yield found

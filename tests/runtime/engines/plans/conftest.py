"""Plans of a tiny bundle, and libraries that stand in for those of a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

import fake_gpu
import plan_folders
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

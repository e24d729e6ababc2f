"""Tiny bundles: one of each kind for reading, and a fresh copy for tests that damage it."""

import shutil
from pathlib import Path

import pytest

from tiny_bundle import build_tiny_bundle


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An intact bundle with shared weights; not to be changed."""
    return build_tiny_bundle(tmp_path_factory.mktemp("pristine") / "bundle", shared_weights=True)


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    """A copy of `pristine` that may be changed."""
    return shutil.copytree(pristine, tmp_path / "bundle")


@pytest.fixture(scope="session")
def data(pristine: Path) -> bytes:
    """The manifest of `pristine`."""
    return (pristine / "effbert.json").read_bytes()

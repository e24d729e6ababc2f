"""Tiny bundles: one of each kind for reading, and fresh copies to damage."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bundle_edits import at, edit_manifest
from effbert.runtime import Session
from effbert.runtime.engines.table import installed_engines
from task_bundles import build_question_bundle, build_token_bundle
from tiny_bundle import build_tiny_bundle


def _padding_seen(folder: Path) -> Path:
    build_tiny_bundle(folder)
    edit_manifest(folder, at("padding_free", False))
    return folder


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "entropy": build_tiny_bundle,
    "patience": lambda folder: build_tiny_bundle(folder, policy="patience"),
    "shared": lambda folder: build_tiny_bundle(folder, shared_weights=True),
    "padding": _padding_seen,
    "tokens": build_token_bundle,
    "questions": build_question_bundle,
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One bundle of each kind; not to be changed."""
    folder = tmp_path_factory.mktemp("bundles")
    return {name: build(folder / name) for name, build in BUILDERS.items()}


@pytest.fixture(scope="session")
def sessions(bundles: dict[str, Path]) -> Iterator[dict[str, Session]]:
    """A session on each of `bundles`."""
    with opened(bundles, "onnxruntime") as found:
        yield found


@pytest.fixture(scope="session", params=installed_engines())
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine in turn."""
    return request.param


@pytest.fixture(scope="session")
def engine_sessions(bundles: dict[str, Path], engine: str) -> Iterator[dict[str, Session]]:
    """A session on each of `bundles`, with every engine in turn."""
    with opened(bundles, engine) as found:
        yield found


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


@contextmanager
def opened(bundles: dict[str, Path], engine: str) -> Iterator[dict[str, Session]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Session(path, engine, threads=1))
            for name, path in bundles.items()
        }

"""Tiny bundles, written once and shared by the tests, which only read them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundle_edits import at, edit_manifest
from effbert.runtime import Session
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
    opened = {name: Session(path, threads=1) for name, path in bundles.items()}
    yield opened
    for session in opened.values():
        session.close()

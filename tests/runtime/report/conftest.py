from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reported_bundles import labelled_bundle


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """A policy -> a tiny bundle with operating points, and its examples; not to be changed."""
    known: dict[str, tuple[Path, Path]] = {}

    def find(policy: str) -> tuple[Path, Path]:
        if policy not in known:
            known[policy] = labelled_bundle(tmp_path_factory.mktemp("reported"), policy)
        return known[policy]

    return find

"""The plans of a bundle: which there are, what they read and make, and their checked bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.engines.plans.executable import Signature
from effbert.runtime.errors import EngineError


class Wanted(NamedTuple):
    """What plans must be made for: the engine, its version, and what the GPU can do ("sm86")."""

    engine: str
    version: str
    capability: str


class FoundPlan(NamedTuple):
    """The plan of one segment; `read` gives its bytes, which are what the index says."""

    file: str
    sha256: str
    signature: Signature
    read: Callable[[], bytes]


class FoundPlans(NamedTuple):
    """The plans of all segments, in order."""

    folder: Path
    compute: str
    plans: list[FoundPlan]


def find_plans(manifest: Manifest, wanted: Wanted, folder: Path | None) -> FoundPlans:
    """Find the plans of a bundle's segments.

    Args:
        manifest: Of the bundle, or of a variant.
        wanted: What they must be made for.
        folder: Where to look; None is the user's cache.

    Raises:
        EngineError: There are none for this.
    """
    raise EngineError(
        f"There are no plans of this bundle for {wanted.engine}; make them with: effbert compile "
        f"BUNDLE --engine {wanted.engine}."
    )

"""Open a bundle with the engine that is asked for, or say who stands in."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import NamedTuple

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.chain.by_variant import Chains
from effbert.runtime.chain.own_chains import OwnChains
from effbert.runtime.engines.protocol import BundleEngine, Engine, EngineSettings
from effbert.runtime.engines.row_independence import NONE, NOT_MEASURED, row_independence
from effbert.runtime.engines.table import ENGINES, open_engine
from effbert.runtime.errors import (
    EffbertWarning,
    EngineError,
    InputError,
    MissingDependencyError,
    ResourceError,
)

CALLER = 3  # frames up from here is the line that opens the session


class Opened(NamedTuple):
    """An engine that has the segments of a bundle ready."""

    name: str
    engine: Engine
    chains: Chains | OwnChains


def open_chains(
    bundle: Bundle, name: str, settings: EngineSettings, fallback: str | None = None
) -> Opened:
    """Open the segments of a bundle.

    Args:
        bundle: The open bundle.
        name: The engine that is asked for.
        settings: What is asked of it.
        fallback: The engine that stands in if that one cannot run the bundle here, with a warning
            that says why; None, or strict settings, let the error through.

    Raises:
        InputError: There is no such engine.
        MissingDependencyError: Its library is not installed.
        EngineError, ResourceError: It cannot run the bundle here.
    """
    if fallback is not None and (fallback not in ENGINES or fallback == name):
        others = ", ".join(each for each in ENGINES if each != name)
        raise InputError(f"Fallback {fallback!r} is no other engine; choose one of: {others}.")
    try:
        return _opened(bundle, name, settings)
    except (MissingDependencyError, EngineError, ResourceError) as error:
        if fallback is None or settings.strict:
            raise
        reason = str(error).rstrip(".")
    warnings.warn(
        f"{reason}; until then the engine {fallback} runs the bundle.",
        EffbertWarning,
        stacklevel=CALLER,
    )
    return _opened(bundle, fallback, replace(settings, device=None, folder=None))


def _opened(bundle: Bundle, name: str, settings: EngineSettings) -> Opened:
    engine = open_engine(name, settings)
    if isinstance(engine, BundleEngine):
        return Opened(name, engine, OwnChains(bundle.manifest, engine.open(bundle)))
    return Opened(name, engine, Chains(bundle, engine))


def require_independent_rows(name: str, engine: Engine, settings: EngineSettings) -> None:
    """Refuse an engine whose rows depend on each other; warn if nobody has measured it.

    Raises:
        InputError: They do, or, with strict settings, nobody has measured it.
    """
    found = row_independence(name, settings.precision, engine.measured_rows)
    if found == NONE:
        raise InputError(
            f"With {name} at {settings.precision} a row's answer depends on the rows beside it, "
            "and the chain changes those; choose another engine, or pass dependent_rows=True."
        )
    if found != NOT_MEASURED:
        return
    what = (
        f"With {name} at {settings.precision} nobody has measured whether a row's answer depends "
        "on the rows beside it, and the chain changes those; measure it with: effbert validate "
        f"BUNDLE --engine {name}"
    )
    if settings.strict:
        raise InputError(f"{what}, or pass dependent_rows=True.")
    warnings.warn(f"{what}.", EffbertWarning, stacklevel=CALLER)

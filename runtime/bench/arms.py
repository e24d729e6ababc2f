"""What is compared: every engine that runs here, at full depth and at each operating point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Manifest, to_numbers
from effbert.runtime.chain.knobs import KnobValue
from effbert.runtime.engines.table import ENGINES, installed_engines
from effbert.runtime.errors import EngineError, MissingDependencyError, ResourceError
from effbert.runtime.session import Session

FULL = "full depth"
DEFAULTS = "defaults"
Knobs = Mapping[str, KnobValue]


class Arm(NamedTuple):
    """A session and the knob values it is measured with."""

    engine: str
    point: str
    session: Session
    knobs: Knobs


class Arms(NamedTuple):
    """What is compared, and the engines that cannot be, with the reason."""

    arms: list[Arm]
    skipped: dict[str, str]


@contextmanager
def open_arms(
    bundle: Bundle,
    threads: int | None,
    points: Mapping[str, Knobs],
    where: Mapping[str, Any] | None = None,
) -> Iterator[Arms]:
    """Open the bundle with every engine that runs here, and close all at the end.

    Args:
        bundle: The open bundle.
        threads: Threads of each engine on the CPU.
        points: Name of an operating point -> its knob values.
        where: What `Session` is told of devices and plans, for engines that need them.

    Raises:
        MissingDependencyError: No engine is installed.
        EngineError, ResourceError: A segment cannot be loaded.
    """
    skipped = {}
    with ExitStack() as stack:
        sessions = {
            name: stack.enter_context(Session(bundle, name, threads=threads, dependent_rows=True))
            for name in installed_engines()
        }
        for name in (name for name, entry in ENGINES.items() if entry.on_request):
            try:
                session = Session(
                    bundle, name, threads=threads, dependent_rows=True, **(where or {})
                )
            except (MissingDependencyError, EngineError, ResourceError) as error:
                skipped[name] = str(error)
            else:
                sessions[name] = stack.enter_context(session)
        arms = [
            Arm(engine, point, session, knobs)
            for engine, session in sessions.items()
            for point, knobs in points.items()
        ]
        yield Arms(arms, skipped)


def full_depth(manifest: Manifest) -> dict[str, Knobs]:
    """Return the knob values at which every row goes to the last exit."""
    return {FULL: {knob.name: to_numbers(knob.never) for knob in manifest.knobs}}


def all_points(manifest: Manifest) -> dict[str, Knobs]:
    """Full depth, the defaults if they exit early, and every operating point."""
    points = full_depth(manifest)
    defaults = {knob.name: to_numbers(knob.default) for knob in manifest.knobs}
    if defaults != points[FULL]:
        points[DEFAULTS] = defaults
    for point in manifest.operating_points:
        points[point.name] = {name: to_numbers(value) for name, value in point.knobs.items()}
    return points

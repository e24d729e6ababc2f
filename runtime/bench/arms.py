"""What is compared: every installed engine, at full depth and at each operating point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Manifest, to_numbers
from effbert.runtime.chain.knobs import KnobValue
from effbert.runtime.engines.table import installed_engines
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


@contextmanager
def open_arms(
    bundle: Bundle, threads: int | None, points: Mapping[str, Knobs]
) -> Iterator[list[Arm]]:
    """Open the bundle with every installed engine, and close all at the end.

    Raises:
        MissingDependencyError: No engine is installed.
        EngineError, ResourceError: A segment cannot be loaded.
    """
    with ExitStack() as stack:
        sessions = {
            name: stack.enter_context(Session(bundle, name, threads=threads, dependent_rows=True))
            for name in installed_engines()
        }
        yield [
            Arm(engine, point, session, knobs)
            for engine, session in sessions.items()
            for point, knobs in points.items()
        ]


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

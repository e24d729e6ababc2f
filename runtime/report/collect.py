"""Everything that a report says, collected from a bundle, this machine and examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.points.examples import Columns
from effbert.runtime.report.content import Findings, facts_of, parity_of, segments_of
from effbert.runtime.report.machine_facts import machine_facts
from effbert.runtime.report.on_examples import look_at_examples
from effbert.runtime.session import Session


@dataclass(frozen=True)
class Asked:
    """What a report is to be about.

    Attributes:
        bundle: Its folder, or ORG/NAME on the hub.
        data: Examples, with or without labels; None reports the bundle alone and runs nothing.
        columns: Of the data.
        skip_bad: Leave out lines that cannot be read.
        metric: Name of the quality; None for the usual one of the task.
        engine: What runs the segments; None is the first that is installed.
        threads: Threads that compute one segment.
    """

    bundle: str
    data: Path | None = None
    columns: Columns = field(default_factory=Columns)
    skip_bad: bool = False
    metric: str | None = None
    engine: str | None = None
    threads: int | None = None


def collect(asked: Asked, tell: Callable[[int], None] = lambda rows: None) -> Findings:
    """Look at a bundle, and at what it does with examples.

    Args:
        asked: About what.
        tell: Told how many examples are done.

    Raises:
        BundleError: The bundle cannot be read.
        InputError: Bundle and data do not fit each other.
        RunError: The engine failed, or answers cannot be kept beside the bundle.
    """
    bundle = open_bundle(asked.bundle)
    manifest = bundle.manifest
    findings = Findings(
        name=(bundle.origin or bundle.path.name).partition("@")[0],
        facts=facts_of(bundle),
        segments=segments_of(manifest),
        operating_points=manifest.operating_points,
        parity=parity_of(manifest),
        tolerance=manifest.parity.atol if manifest.parity else None,
        files={name: (file.size, file.sha256) for name, file in manifest.files.items()},
        machine=machine_facts(None),
    )
    if asked.data is None:
        return findings
    with Session(bundle, asked.engine, asked.threads) as session:
        found, costs = look_at_examples(
            session, asked.data, asked.columns, asked.skip_bad, asked.metric, tell
        )
        return replace(
            findings,
            machine=machine_facts(session),
            segments=[
                replace(segment, ms=cost)
                for segment, cost in zip(findings.segments, costs, strict=True)
            ],
            examples=found,
        )

"""What a child process is asked to build, and what it says when it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Manifest, Segment
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.compile.profiles import Profile
from effbert.runtime.engines.plans.index import PlanExtent, PlanPort
from effbert.runtime.errors import CompileError

JOB, OUTCOME = "job.json", "outcome.json"  # in the folder that the child runs in


class Job(Struct, frozen=True):
    """One segment to build.

    Attributes:
        bundle: Folder of the bundle.
        file: The segment in there; `sha256` is that of its bytes.
        weights: sha256 of the bundle's `weights.bin`, if it has one.
        index: Of the segment in its chain.
        rows: Carry -> the input with its rows.
        plan: The file to write.
        check_only: Whether to stop before the build.
    """

    bundle: str
    file: str
    sha256: str
    weights: str | None
    index: int
    rows: dict[str, str]
    engine: str
    compute: str
    targets: list[str]
    profiles: list[Profile]
    leaving: float
    tf32: bool
    plan: str
    check_only: bool = False


class Outcome(Struct, frozen=True):
    """What became of a job; `error` is the name of an error of ours, with its message.

    `problems` are what the lint found: node, operator, reason and way out of each.
    """

    error: str | None = None
    message: str = ""
    problems: list[tuple[str, str, str, str]] = []
    library: str = ""
    inputs: list[PlanPort] = []
    outputs: list[PlanPort] = []
    extents: list[PlanExtent] = []
    profiles: list[dict[str, tuple[int, int, int]]] = []
    changes: dict[str, int] = {}
    reads_weights: bool = False
    size: int = 0
    sha256: str = ""
    peak: int = 0


def rows_inputs(manifest: Manifest, segments: Sequence[Segment], index: int) -> dict[str, str]:
    """Say which input holds the rows of each carry that a segment reads.

    What the segment just before made shares `rows`; what is older, or was there before the first
    segment, lies in buffers of other rows, and has `rows_from_K` or `rows_from_start`.
    """
    made: dict[str, int | None] = {state.name: None for state in manifest.states}
    for earlier, segment in enumerate(segments[:index]):
        made |= dict.fromkeys(segment.carries, earlier)
    rows = {}
    for item in segments[index].inputs:
        if item.name in made:
            maker = made[item.name]
            older = "rows_from_start" if maker is None else f"rows_from_{maker}"
            rows[item.name] = "rows" if maker is not None and maker == index - 1 else older
    return rows


def chained_segments(manifest: Manifest) -> Iterator[tuple[int, Segment, dict[str, str]]]:
    """Give every segment of every variant once: its index, what it is, and its inputs of rows.

    Raises:
        CompileError: Two variants use a segment in different ways.
    """
    known: dict[str, Any] = {}
    for segments in (manifest.segments, *(variant.segments for variant in manifest.variants)):
        for index, segment in enumerate(segments):
            found = (segment, rows_inputs(manifest, segments, index))
            if segment.file not in known:
                known[segment.file] = found
                yield (index, *found)
            elif known[segment.file] != found:
                raise CompileError(
                    f"{segment.file} reads its carries in another way in each variant, which one "
                    "plan cannot do; export the bundle again."
                )


def weights_hash(bundle: Bundle) -> str | None:
    """Return the sha256 of the bundle's shared weights."""
    record = bundle.manifest.files.get(WEIGHTS_NAME)
    return None if record is None else record.sha256

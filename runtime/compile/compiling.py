"""Compile a bundle: a plan for each segment, and the index that says what they are."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Segment
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.compile.children import run_job
from effbert.runtime.compile.jobs import Job, Outcome, chained_segments, weights_hash
from effbert.runtime.compile.library import COMPUTES, choose_targets, load_library
from effbert.runtime.compile.plan_folder import appearing_folder, require_free
from effbert.runtime.compile.profiles import Profile, check_profiles, usual_profile
from effbert.runtime.engines.passing_folder import passing_folder
from effbert.runtime.engines.plans.index import (
    FORMAT,
    INDEX_NAME,
    VERSION,
    PlanIndex,
    PlanSegment,
    encode_index,
    read_index,
)
from effbert.runtime.engines.plans.plan_store import LIMIT, Key, evict, folder_of, mark_used
from effbert.runtime.engines.plans.trust import is_trusted, trust_hashes
from effbert.runtime.errors import InputError, PlanError

Progress = Callable[[int, int, str], None]  # how many of how many are done, and what comes


@dataclass(frozen=True)
class CompileOptions:
    """What is asked of a compilation.

    Attributes:
        engine: "tensorrt-rtx" or "tensorrt".
        compute: "fp32", "fp16" or "bf16".
        targets: Devices, such as "sm86"; none is the engine's usual ones.
        profiles: Batches and lengths; none is one for the whole range of the model.
        leaving: Share of the rows that usually leave at each exit.
        tf32: Whether products of float32 may round their factors to TF32.
        output: Where to write; None is the user's cache.
        limit: Bytes that the cache may hold.
    """

    engine: str = "tensorrt-rtx"
    compute: str = "fp32"
    targets: Sequence[str] = ()
    profiles: Sequence[Profile] = ()
    leaving: float = 0.0
    tf32: bool = False
    output: Path | None = None
    limit: int = LIMIT

    def check(self) -> None:
        """Refuse values that do not exist.

        Raises:
            InputError: Says which.
        """
        if self.compute not in COMPUTES:
            raise InputError(
                f"There is no compute precision {self.compute!r}; choose one of "
                f"{', '.join(COMPUTES)}."
            )
        if not 0 <= self.leaving < 1:
            raise InputError(f"--leaving is a share from 0 to 1, got {self.leaving}.")


class Built(NamedTuple):
    """One plan: its segment, the seconds it took, its bytes, and the most memory of the child."""

    file: str
    seconds: float
    size: int
    peak: int


@dataclass(frozen=True)
class Compiled:
    """What was compiled.

    Attributes:
        folder: Where the plans are.
        index: What `engine.json` says.
        built: The plans, in order; none if they were there already.
        copies: How many plans hold weights that the bundle has once, and how many bytes that is
            more than once.
        evicted: Folders that left the cache, with their bytes.
    """

    folder: Path
    index: PlanIndex
    built: list[Built]
    copies: tuple[int, int]
    evicted: list[tuple[Path, int]]


def compile_bundle(
    bundle: Bundle, options: CompileOptions, progress: Progress | None = None
) -> Compiled:
    """Build a plan for each segment of a bundle, and trust them on this machine.

    Args:
        bundle: The open bundle.
        options: What is asked for.
        progress: Called before each segment.

    Raises:
        MissingDependencyError: The engine's library, or what prepares graphs, is not installed.
        InputError: An option does not fit.
        CompileError: A segment cannot be built; nothing is written.
        ResourceError: Memory or disk is not enough; nothing is written.
    """
    options.check()
    library = load_library(options.engine)
    targets = choose_targets(library, options.engine, options.targets)
    profiles = [*options.profiles] or [usual_profile(bundle.manifest)]
    check_profiles(profiles, bundle.manifest)
    jobs = make_jobs(bundle, options, targets, profiles)
    if options.output is None:
        folder = folder_of(_key(jobs, str(library.__version__), options))
        if (index := _there(folder)) is not None:
            mark_used(folder)
            return Compiled(folder, index, [], _copies(bundle, index), [])
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder = options.output
        require_free(folder)
    built: list[Built] = []
    plans: list[PlanSegment] = []
    with appearing_folder(folder) as work:
        for number, job in enumerate(jobs):
            if progress is not None:
                progress(number, len(jobs), job.file)
            begin = time.monotonic()
            outcome = run_job(job, work)
            built.append(Built(job.file, time.monotonic() - begin, outcome.size, outcome.peak))
            plans.append(_record(job, outcome))
        index = PlanIndex(
            format=FORMAT,
            version=VERSION,
            engine=options.engine,  # type: ignore[arg-type]  # of the choices
            library=str(library.__version__),
            targets=targets,
            compute=options.compute,  # type: ignore[arg-type]  # checked
            flags={"tf32": options.tf32},
            segments=plans,
        )
        (work / INDEX_NAME).write_bytes(encode_index(index))
        trust_hashes([plan.plan_sha256 for plan in plans], f"built from {bundle.path}")
    evicted = evict(folder, options.limit) if options.output is None else []
    return Compiled(folder, index, built, _copies(bundle, index), evicted)


class Checked(NamedTuple):
    """What a look at a segment found: file, and node, operator, reason and way out of each."""

    file: str
    changes: dict[str, int]
    problems: list[tuple[str, str, str, str]]


def check_bundle_builds(
    bundle: Bundle, options: CompileOptions, progress: Progress | None = None
) -> list[Checked]:
    """Prepare every segment and list what cannot be built, without the engine's library.

    Raises:
        MissingDependencyError: What prepares graphs is not installed.
        CompileError: A segment cannot be prepared at all.
    """
    options.check()
    profiles = [*options.profiles] or [usual_profile(bundle.manifest)]
    jobs = make_jobs(bundle, options, [*options.targets], profiles, check_only=True)
    found = []
    with passing_folder() as work:
        for number, job in enumerate(jobs):
            if progress is not None:
                progress(number, len(jobs), job.file)
            outcome = run_job(job, work)
            found.append(Checked(job.file, outcome.changes, outcome.problems))
    return found


def make_jobs(
    bundle: Bundle,
    options: CompileOptions,
    targets: Sequence[str],
    profiles: Sequence[Profile],
    check_only: bool = False,
) -> list[Job]:
    """Say what is to be built, segment by segment."""
    files = bundle.manifest.files
    return [
        Job(
            bundle=str(bundle.path),
            file=segment.file,
            sha256=files[segment.file].sha256,
            weights=weights_hash(bundle),
            index=index,
            rows=rows,
            engine=options.engine,
            compute=options.compute,
            targets=[*targets],
            profiles=[*profiles],
            leaving=options.leaving,
            tf32=options.tf32,
            plan=_plan_name(segment),
            check_only=check_only,
        )
        for index, segment, rows in chained_segments(bundle.manifest)
    ]


def _plan_name(segment: Segment) -> str:
    return f"{segment.file.removesuffix('.onnx')[:120]}.plan"


def _record(job: Job, outcome: Outcome) -> PlanSegment:
    return PlanSegment(
        file=job.file,
        sha256=job.sha256,
        weights=job.weights if outcome.reads_weights else None,
        plan=job.plan,
        size=outcome.size,
        plan_sha256=outcome.sha256,
        inputs=outcome.inputs,
        outputs=outcome.outputs,
        extents=outcome.extents,
        profiles=[{**each} for each in outcome.profiles],
        changes=outcome.changes,
    )


def _key(jobs: Sequence[Job], version: str, options: CompileOptions) -> Key:
    first: Any = jobs[0]
    return Key(
        segments={job.file: job.sha256 for job in jobs},
        weights=first.weights,
        engine=options.engine,
        library=version,
        targets=tuple(first.targets),
        compute=options.compute,
        profiles=[[str(profile) for profile in first.profiles], options.leaving],
        flags={"tf32": options.tf32},
    )


def _there(folder: Path) -> PlanIndex | None:
    """Return the index of plans in the cache if all of them are there and trusted."""
    try:
        index = read_index(folder)
        whole = all(
            is_trusted(plan.plan_sha256) and (folder / plan.plan).stat().st_size == plan.size
            for plan in index.segments
        )
    except (PlanError, OSError):
        return None
    return index if whole else None


def _copies(bundle: Bundle, index: PlanIndex) -> tuple[int, int]:
    record = bundle.manifest.files.get(WEIGHTS_NAME)
    number = sum(plan.weights is not None for plan in index.segments)
    if record is None or number < 2:
        return 0, 0
    return number, (number - 1) * record.size

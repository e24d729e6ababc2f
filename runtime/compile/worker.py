"""The child process that builds one plan: its memory goes back to the system when it ends.

`python -m effbert.runtime.compile.worker` reads `job.json` in the current folder, which is a
private one, and writes the plan and `outcome.json` there.
"""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from effbert.runtime.bundle.folder import Bundle, open_bundle
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.compile.audit import audit_graph, audit_size
from effbert.runtime.compile.build import Choices, build_plan
from effbert.runtime.compile.jobs import JOB, OUTCOME, Job, Outcome
from effbert.runtime.compile.library import load_library
from effbert.runtime.compile.ports import ports_of
from effbert.runtime.compile.profiles import segment_sizes
from effbert.runtime.engines.plans.index import input_sizes
from effbert.runtime.errors import (
    CompileError,
    EffbertError,
    IntegrityError,
    MissingDependencyError,
    ResourceError,
)

PASSES = "effbert.graph_passes"
SHOWN = 3  # problems in a message


def do_job(job: Job) -> Outcome:
    """Prepare a segment, look for what cannot be built, and build it.

    Raises:
        EffbertError: It cannot be built; says why.
    """
    bundle = open_bundle(job.bundle)
    prepared, problems = _prepared(bundle, job)
    ports = ports_of(prepared)
    sizes = segment_sizes(ports, job.profiles, bundle.manifest, job.index, job.leaving)
    found = Outcome(
        problems=[tuple(problem) for problem in problems],
        inputs=ports.inputs,
        outputs=ports.outputs,
        extents=ports.extents,
        profiles=sizes,
        changes={**prepared.changes},
        reads_weights=prepared.changes["weights inlined"] > 0,
    )
    if job.check_only:
        return msgspec.structs.replace(found, peak=_peak())
    if problems:
        more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
        shown = "; ".join(str(problem).rstrip(".") for problem in problems[:SHOWN])
        raise CompileError(f"{job.file} cannot be built: {shown}{more}.")
    audit_graph(job.file, prepared, job.compute)
    library = load_library(job.engine)
    plan = build_plan(
        library,
        job.file,
        prepared.model,
        ports,
        [input_sizes(ports.inputs, each) for each in sizes],
        Choices(job.targets, job.tf32),
    )
    view = memoryview(plan)
    audit_size(job.file, prepared, view.nbytes, len(sizes), job.compute)
    digest = hashlib.sha256(view).hexdigest()
    Path(job.plan).write_bytes(view)
    return msgspec.structs.replace(
        found,
        library=str(library.__version__),
        size=view.nbytes,
        sha256=digest,
        peak=_peak(),
    )


def _prepared(bundle: Bundle, job: Job) -> tuple[Any, list[Any]]:
    """Prepare the segment, and list what cannot be built of it."""
    try:
        passes = import_module(f"{PASSES}.prepare")
        lint = import_module(f"{PASSES}.tensorrt_lint")
    except ImportError as error:
        raise MissingDependencyError(
            f"Compiling prepares graphs, and needs {error.name or 'onnx_ir'}, which is not "
            'installed; install it with: pip install "effbert[compile]".'
        ) from error
    manifest = bundle.manifest
    segments = (manifest.segments, *(variant.segments for variant in manifest.variants))
    record = next(each for several in segments for each in several if each.file == job.file)
    request = passes.Request(
        compute=job.compute,
        rows=job.rows,
        trims=manifest.padding_free,
        carries=record.carries,
        states={state.name for state in manifest.states},
        knobs={knob.name for knob in manifest.knobs},
    )
    if manifest.files[job.file].sha256 != job.sha256:
        raise IntegrityError(f"{job.file} was replaced while it was compiled; compile again.")
    weights = None if job.weights is None else bundle.read(WEIGHTS_NAME)
    try:
        prepared = passes.prepare(bundle.read(job.file), weights, request)
        problems = lint.find_problems(passes.read_model(prepared.model), job.targets)
    except passes.PrepareError as error:
        raise CompileError(f"{job.file}: {error}") from error
    return prepared, problems


def _peak() -> int:
    """Return the most bytes that this process held; 0 where the system does not say.

    On Linux, `getrusage` starts from what the parent held.
    """
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    with suppress(ImportError):
        resource: Any = import_module("resource")
        unit = 1 if sys.platform == "darwin" else 1024
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
    return 0


def main() -> None:
    """Do the job in the current folder."""
    job = msgspec.json.decode(Path(JOB).read_bytes(), type=Job)
    try:
        outcome = do_job(job)
    except EffbertError as error:
        outcome = Outcome(error=type(error).__name__, message=str(error))
    except MemoryError:
        message = f"The memory is not enough to build {job.file}; free some and compile again."
        outcome = Outcome(error=ResourceError.__name__, message=message)
    except OSError as error:
        message = f"{job.plan} cannot be written: {error.strerror}."
        outcome = Outcome(error=ResourceError.__name__, message=message)
    Path(OUTCOME).write_bytes(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()

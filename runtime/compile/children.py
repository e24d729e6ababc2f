"""One child process a segment: what it used goes back to the system, and a crash ends only it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from effbert.runtime import errors
from effbert.runtime.compile.jobs import JOB, OUTCOME, Job, Outcome
from effbert.runtime.errors import CompileError, EffbertError, ResourceError

MODULE = "effbert.runtime.compile.worker"
SAID = "said.txt"
LONGEST = 200


def run_job(job: Job, folder: Path) -> Outcome:
    """Do a job in a child process that runs in a private folder.

    Raises:
        EffbertError: What the child raised.
        CompileError, ResourceError: It did not end by itself.
    """
    (folder / JOB).write_bytes(msgspec.json.encode(job))
    said = folder / SAID
    with open(said, "wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": _absolute(os.environ.get("PYTHONPATH"))},
        )
        try:
            code = child.wait()
        finally:
            if child.poll() is None:  # interrupted
                child.kill()
                child.wait()
    try:
        outcome = msgspec.json.decode((folder / OUTCOME).read_bytes(), type=Outcome)
    except (OSError, msgspec.MsgspecError):
        raise _ended(job, code, said) from None
    finally:
        for name in (JOB, OUTCOME, SAID):
            (folder / name).unlink(missing_ok=True)
    if outcome.error is not None:
        raise _raised(outcome)
    return outcome


def _absolute(path: str | None) -> str:
    """Keep what this process imports importable from another folder."""
    return os.pathsep.join(os.path.abspath(part) for part in (path or "").split(os.pathsep) if part)


def _raised(outcome: Outcome) -> EffbertError:
    kind = getattr(errors, str(outcome.error), None)
    if isinstance(kind, type) and issubclass(kind, EffbertError):
        return kind(outcome.message)
    return CompileError(outcome.message)


def _ended(job: Job, code: int, said: Path) -> EffbertError:
    """Say how a child ended that left no outcome."""
    if code == -getattr(signal, "SIGKILL", 9) or code == 137:
        return ResourceError(
            f"The process that built {job.file} was killed, most likely because the memory ran "
            "out; free some, or compile fewer or smaller profiles."
        )
    words = " ".join(said.read_text(encoding="utf-8", errors="replace").split())[-LONGEST:]
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return CompileError(
        f"The process that built {job.file} ended {how}; it last said: {words or 'nothing'}."
    )

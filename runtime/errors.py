"""Every error a user can meet, in one tree.

    EffbertError
    |- BundleError                a bundle that cannot be trusted or read
    |  |- ManifestError           effbert.json: bad JSON, bad field, limit exceeded
    |  |- VersionError            written by a format version this reader does not know
    |  |- IntegrityError          size or sha256 differs from the manifest
    |  |- PathError               a name that is not a plain file inside the bundle
    |  `- UnsafeContentError      control flow, foreign operators, stray external data
    |- ExportError                a checkpoint that cannot be exported
    |  |- CheckpointError         unreadable, incomplete or unknown checkpoint
    |  |- TraceError              torch or the cut cannot handle the model (exit code 1)
    |  |- OutputExistsError       the bundle is there already
    |  |- ParityError             the bundle differs from the torch model (exit code 1)
    |  `- AgreementError          a lower precision changes too many answers or decisions
    |- CompileError               an engine cannot build a segment (exit code 1)
    |- InputError                 texts, ids or knobs that do not fit (also a ValueError)
    |- RunError                   a run that failed
    |  |- NumericalError          logits are not finite
    |  |- ResourceError           out of memory or disk
    |  |- CancelledError          cancelled by the caller
    |  `- EngineError             the engine failed; its own text is the __cause__ (exit code 1)
    |     `- PlanError            compiled plans are missing, not trusted, or of another kind
    `- MissingDependencyError     an extra is not installed (also an ImportError)

Messages are one sentence: what is wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class EffbertError(Exception):
    """Root of all errors raised on purpose; `exit_code` is what the commands return."""

    exit_code = 2


class EffbertWarning(UserWarning):
    """What a user should know, and can refuse with `strict`."""


class BundleError(EffbertError):
    """A bundle that cannot be trusted or read."""


class ManifestError(BundleError):
    """effbert.json is not a valid manifest."""


class VersionError(BundleError):
    """The bundle needs another version of effbert."""


class IntegrityError(BundleError):
    """A file differs from what the manifest says."""


class PathError(BundleError):
    """A file name that is not a plain file inside the bundle."""


class UnsafeContentError(BundleError):
    """A segment holds something a bundle must not hold."""


class ExportError(EffbertError):
    """A checkpoint that cannot be exported."""


class CheckpointError(ExportError):
    """A checkpoint that cannot be read or recognised."""


class TraceError(ExportError):
    """A model that torch cannot trace, or whose graph cannot be cut."""

    exit_code = 1


class OutputExistsError(ExportError):
    """The bundle folder exists already."""


class ParityError(ExportError):
    """The exported segments do not compute what the torch model computes."""

    exit_code = 1


class AgreementError(ExportError):
    """A bundle of lower precision answers or decides too often otherwise than the model."""


class CompileError(EffbertError):
    """A segment that an engine cannot build."""

    exit_code = 1


class InputError(EffbertError, ValueError):
    """Texts, token ids or knobs that do not fit the bundle."""


class RunError(EffbertError):
    """A run that could not be finished."""


class NumericalError(RunError):
    """Answers that are not finite, for `rows` of the caller's batch."""

    def __init__(self, rows: Sequence[int], what: str) -> None:
        self.rows = list(rows)
        self.what = what
        more = " and more" if len(self.rows) > 16 else ""
        super().__init__(f"Rows {self.rows[:16]}{more} have {what}")


class ResourceError(RunError):
    """Memory or disk ran out."""

    exit_code = 1


class CancelledError(RunError):
    """The caller cancelled the run."""


class EngineError(RunError):
    """The engine refused a segment or failed while running it."""

    exit_code = 1


class PlanError(EngineError):
    """Compiled plans that are missing, not trusted, altered, or made for something else."""

    exit_code = 2


class MissingDependencyError(EffbertError, ImportError):
    """A library that an optional feature needs is not installed."""

"""Open bundles and answer texts or token ids, sample by sample as deep as needed."""

from effbert.runtime.bundle.folder import Bundle, open_bundle
from effbert.runtime.chain.batches import by_length
from effbert.runtime.chain.exit_stats import PointStats, Stats
from effbert.runtime.chain.results import Result
from effbert.runtime.chain.stopping import Cancel
from effbert.runtime.checks.recording import record_segments
from effbert.runtime.engines.table import ENGINES
from effbert.runtime.errors import (
    AgreementError,
    BundleError,
    CancelledError,
    CheckpointError,
    CompileError,
    EffbertError,
    EffbertWarning,
    EngineError,
    ExportError,
    InputError,
    IntegrityError,
    ManifestError,
    MissingDependencyError,
    NumericalError,
    OutputExistsError,
    ParityError,
    PathError,
    PlanError,
    ResourceError,
    RunError,
    TraceError,
    UnsafeContentError,
    VersionError,
)
from effbert.runtime.points.kept_exits import Kept, Placement, choose_exits
from effbert.runtime.points.reliability import fit_temperature
from effbert.runtime.session import Exit, Session
from effbert.runtime.texts.files import Labelled, read_labelled, read_texts
from effbert.runtime.texts.predictions import (
    Answer,
    Classification,
    Entity,
    Prediction,
    TokenLabels,
)
from effbert.runtime.texts.tokenization import EncodedText, Encoder, Text, TextEncoder

__all__ = [
    "ENGINES",
    "AgreementError",
    "Answer",
    "Bundle",
    "BundleError",
    "Cancel",
    "CancelledError",
    "CheckpointError",
    "Classification",
    "CompileError",
    "EffbertError",
    "EffbertWarning",
    "EncodedText",
    "Encoder",
    "EngineError",
    "Entity",
    "Exit",
    "ExportError",
    "InputError",
    "IntegrityError",
    "Kept",
    "Labelled",
    "ManifestError",
    "MissingDependencyError",
    "NumericalError",
    "OutputExistsError",
    "ParityError",
    "PathError",
    "Placement",
    "PlanError",
    "PointStats",
    "Prediction",
    "ResourceError",
    "Result",
    "RunError",
    "Session",
    "Stats",
    "Text",
    "TextEncoder",
    "TokenLabels",
    "TraceError",
    "UnsafeContentError",
    "VersionError",
    "by_length",
    "choose_exits",
    "fit_temperature",
    "open_bundle",
    "read_labelled",
    "read_texts",
    "record_segments",
]

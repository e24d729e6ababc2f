"""Opens bundles and answers texts or token ids, sample by sample as deep as needed."""

from effbert.runtime.batches import by_length
from effbert.runtime.bundle import Bundle, open_bundle
from effbert.runtime.cancel import Cancel
from effbert.runtime.errors import EffbertError
from effbert.runtime.predictions import Answer, Classification, Entity, Prediction, TokenLabels
from effbert.runtime.results import Result
from effbert.runtime.session import Exit, Session

__all__ = [
    "Answer",
    "Bundle",
    "Cancel",
    "Classification",
    "EffbertError",
    "Entity",
    "Exit",
    "Prediction",
    "Result",
    "Session",
    "TokenLabels",
    "by_length",
    "open_bundle",
]

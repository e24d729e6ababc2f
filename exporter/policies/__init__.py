"""All exit policies. A new one is one file, and one line in the table below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effbert.exporter.policies.policy import Policy

# Name of the policy -> `module:NAME`, imported when it is looked up: the names alone are needed by
# the commands, and onnxscript, which policies are written in, takes half a second to import.
TABLE: Mapping[str, str] = {
    "entropy": "entropy:ENTROPY",
    "entropy-naive": "entropy:ENTROPY_NAIVE",
    "entropy-exp": "entropy:ENTROPY_EXP",
    "entropy-categorical": "entropy:ENTROPY_CATEGORICAL",
    "entropy-fastbert": "fastbert:ENTROPY_FASTBERT",
    "confidence": "confidence:CONFIDENCE",
    "confidence-above": "confidence:CONFIDENCE_ABOVE",
    "margin": "confidence:MARGIN",
    "patience": "patience:PATIENCE",
    "patience-regression": "patience:PATIENCE_REGRESSION",
    "learned": "learned:LEARNED",
    "vote": "vote:VOTE",
    "elbert-entropy": "elbert:ELBERT_ENTROPY",
    "elbert-bias-1": "elbert:ELBERT_BIAS_1",
    "elbert-bias-2": "elbert:ELBERT_BIAS_2",
    "elbert-bias-3": "elbert:ELBERT_BIAS_3",
    "elbert-logits": "elbert:ELBERT_LOGITS",
    "sentence-entropy": "sentence:SENTENCE_ENTROPY",
    "sentence-confidence": "sentence:SENTENCE_CONFIDENCE",
    "token-entropy": "token:TOKEN_ENTROPY",
    "act": "act:ACT",
    "none": "none:NONE",
}


class _Policies(Mapping[str, "Policy"]):
    """Policies by name, each imported when it is looked up."""

    def __getitem__(self, name: str) -> Policy:
        module, _, attribute = TABLE[name].partition(":")
        policy: Policy = getattr(import_module(f"{__name__}.{module}"), attribute)
        return policy

    def __iter__(self) -> Iterator[str]:
        return iter(TABLE)

    def __len__(self) -> int:
        return len(TABLE)


POLICIES: Mapping[str, Policy] = _Policies()

__all__ = ["POLICIES"]

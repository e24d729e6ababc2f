"""All exit policies, one table."""

from __future__ import annotations

from effbert.exporter.policies.act import ACT
from effbert.exporter.policies.confidence import CONFIDENCE, CONFIDENCE_ABOVE, MARGIN
from effbert.exporter.policies.elbert import ELBERT_POLICIES
from effbert.exporter.policies.entropy import (
    ENTROPY,
    ENTROPY_CATEGORICAL,
    ENTROPY_EXP,
    ENTROPY_NAIVE,
)
from effbert.exporter.policies.fastbert import ENTROPY_FASTBERT
from effbert.exporter.policies.learned import LEARNED
from effbert.exporter.policies.none import NONE
from effbert.exporter.policies.patience import PATIENCE, PATIENCE_REGRESSION
from effbert.exporter.policies.policy import Policy
from effbert.exporter.policies.sentence import SENTENCE_CONFIDENCE, SENTENCE_ENTROPY
from effbert.exporter.policies.token import TOKEN_ENTROPY
from effbert.exporter.policies.vote import VOTE

POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        ENTROPY,
        ENTROPY_NAIVE,
        ENTROPY_EXP,
        ENTROPY_CATEGORICAL,
        ENTROPY_FASTBERT,
        CONFIDENCE,
        CONFIDENCE_ABOVE,
        MARGIN,
        PATIENCE,
        PATIENCE_REGRESSION,
        LEARNED,
        VOTE,
        *ELBERT_POLICIES,
        SENTENCE_ENTROPY,
        SENTENCE_CONFIDENCE,
        TOKEN_ENTROPY,
        ACT,
        NONE,
    )
}

__all__ = ["POLICIES", "Policy"]

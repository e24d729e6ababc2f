"""All exit policies, one table."""

from __future__ import annotations

from effbert.exporter.policies.entropy import (
    ENTROPY,
    ENTROPY_CATEGORICAL,
    ENTROPY_EXP,
    ENTROPY_NAIVE,
)
from effbert.exporter.policies.none import NONE
from effbert.exporter.policies.patience import PATIENCE, PATIENCE_REGRESSION
from effbert.exporter.policies.policy import Policy

POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        ENTROPY,
        ENTROPY_NAIVE,
        ENTROPY_EXP,
        ENTROPY_CATEGORICAL,
        PATIENCE,
        PATIENCE_REGRESSION,
        NONE,
    )
}

__all__ = ["POLICIES", "Policy"]

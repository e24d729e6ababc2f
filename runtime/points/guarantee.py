"""A loss that stays below a bound with a stated probability, whatever the data is like.

Learn-then-Test (Angelopoulos, Bates, Candes, Jordan, Lei, 2021, <https://arxiv.org/abs/2110.01052>)
with fixed-sequence testing and the p-value of Hoeffding and Bentkus: thresholds are tested from
late to early until one may lose more; that one and all behind it are not used. The examples must be
drawn as those that follow are, and must not have been used to train the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from effbert.runtime.errors import MissingDependencyError
from effbert.runtime.points.sweep import Signals, exits_taken


def p_value(losses: np.ndarray, risk: float) -> float:
    """Bound the chance of a mean loss this small if the expected loss were above `risk`.

    Args:
        losses: float64 [rows], from 0 to 1.
        risk: Above 0, below 1.
    """
    count, mean = len(losses), float(losses.mean())
    if mean >= risk:
        return 1.0
    hoeffding = math.exp(-count * _divergence(mean, risk))
    successes = math.ceil(count * mean - 1e-9)
    return min(1.0, hoeffding, math.e * _binomial_cdf(successes, count, risk))


def _divergence(one: float, other: float) -> float:
    """Kullback-Leibler divergence of two coins."""
    found = (1 - one) * math.log((1 - one) / (1 - other))
    return found + (one * math.log(one / other) if one else 0.0)


def _binomial_cdf(successes: int, count: int, probability: float) -> float:
    try:
        from scipy.stats import binom
    except ImportError as error:
        raise MissingDependencyError(
            'A guarantee needs scipy; install it with: pip install "effbert[tune]".'
        ) from error
    return float(binom.cdf(successes, count, probability))


def earliest_safe(
    signals: Signals,
    thresholds: Sequence[float] | np.ndarray,
    losses: np.ndarray,
    risk: float,
    confidence: float,
) -> int | None:
    """Find the earliest threshold whose expected loss is at most `risk`.

    Args:
        signals: Of the rows.
        thresholds: From late to early; must not have been chosen on these rows.
        losses: float64 [exits, rows], from 0 to 1, of a row that leaves at an exit.
        risk: The largest expected loss.
        confidence: Probability that the choice keeps to it.

    Returns:
        Its index, or None if not even the first is safe with this many rows.
    """
    rows = np.arange(losses.shape[1])
    safe = None
    for index, threshold in enumerate(thresholds):
        if p_value(losses[exits_taken(signals, threshold), rows], risk) > 1 - confidence:
            break
        safe = index
    return safe


def examples_needed(risk: float, confidence: float) -> int:
    """How many examples without any loss show that the expected loss is at most `risk`."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - risk))

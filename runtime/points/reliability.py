"""Whether exits are right as often as they are sure, and the temperature that would make them so.

Temperature scaling: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML
2017, <https://arxiv.org/abs/1706.04599>. One temperature an exit: Schwartz et al., "The Right Tool
for the Job", ACL 2020, <https://arxiv.org/abs/2004.07453>.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15  # as Guo et al. count
LEAST, MOST = 0.01, 100.0  # temperatures
STEPS = 50  # of the search, each of which leaves 62 % of the range
GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Bin:
    """Rows of similar confidence: how many, how sure on average, and the share that is right."""

    rows: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """How sure an exit is, and how right.

    Attributes:
        error: Expected calibration error, a share: the mean distance of confidence and share of
            right answers over the bins, weighted by their rows.
        surprise: Mean of -log of the probability of the right label, in nats.
        bins: Those that hold rows, from the least confident.
    """

    error: float
    surprise: float
    bins: list[Bin]


@dataclass(frozen=True)
class Calibration:
    """An exit as it is, and with its logits divided by a temperature.

    Attributes:
        temperature: Fitted on all rows.
        before: As it is.
        after: With temperatures that were fitted on the other half of the rows.
    """

    temperature: float
    before: Reliability
    after: Reliability


def calibrate(logits: np.ndarray, truth: np.ndarray) -> Calibration:
    """Fit the temperature of one exit, and tell what it changes on rows it was not fitted on.

    Args:
        logits: float [rows, labels].
        truth: int64 [rows], the right label of each row.
    """
    half = np.random.default_rng(0).permutation(len(truth)) % 2 == 0
    scaled = logits.astype(np.float64)
    for one in (half, ~half):
        if one.any() and not one.all():
            scaled[one] /= fit_temperature(logits[~one], truth[~one])
    return Calibration(
        fit_temperature(logits, truth), reliability(logits, truth), reliability(scaled, truth)
    )


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Find the temperature that makes the right labels likeliest, from 0.01 to 100.

    The mean of -log softmax(logits / T)[label] has one minimum over T, which golden-section search
    on log T finds; for an exit that is always right it is 0.01, for one that knows nothing 100.

    Args:
        logits: float [rows, labels].
        truth: int64 [rows].
    """
    exact = logits.astype(np.float64)
    low, high = np.log(LEAST), np.log(MOST)
    for _ in range(STEPS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if _surprise(exact / np.exp(left), truth) <= _surprise(exact / np.exp(right), truth):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def reliability(logits: np.ndarray, truth: np.ndarray) -> Reliability:
    """Compare how sure an exit is with how often it is right.

    Args:
        logits: float [rows, labels].
        truth: int64 [rows].
    """
    probabilities = np.exp(_log_softmax(logits.astype(np.float64)))
    confidence = probabilities.max(axis=-1)
    right = logits.argmax(axis=-1) == truth
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins = [
        Bin(int(here.sum()), float(confidence[here].mean()), float(right[here].mean()))
        for here in (number == index for index in range(BINS))
        if here.any()
    ]
    error = sum(each.rows * abs(each.right - each.confidence) for each in bins) / len(truth)
    return Reliability(error, _surprise(logits.astype(np.float64), truth), bins)


def _surprise(logits: np.ndarray, truth: np.ndarray) -> float:
    return -float(_log_softmax(logits)[np.arange(len(truth)), truth].mean())


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    moved = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True)))

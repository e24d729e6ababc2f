"""The exit rules of the papers as plain Python loops over the logits of one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Decision(NamedTuple):
    """Where a row left: exit number from 1, float32 logits [labels], and the signal there."""

    exit_number: int
    logits: Tensor
    signal: float


# --- signals ------------------------------------------------------------------------------------


def entropy_naive(x: Tensor) -> Tensor:
    """Entropy as DeeBERT's authors compute it: NaN once a probability underflows to zero."""
    p = torch.softmax(x, -1)
    return -(p * torch.log(p)).sum(-1)


def entropy_exp(x: Tensor) -> Tensor:
    """Entropy from unshifted exponentials: the sums overflow for logits above 84."""
    e = torch.exp(x)
    return torch.log(e.sum(-1)) - (x * e).sum(-1) / e.sum(-1)


def entropy_categorical(x: Tensor) -> Tensor:
    """Entropy with probabilities clamped to [eps, 1 - eps], not divided by ln C."""
    p = torch.softmax(x, -1)
    p = p / p.sum(-1, keepdim=True)
    eps = torch.finfo(torch.float32).eps
    return -(p * torch.log(torch.clamp(p, eps, 1 - eps))).sum(-1)


def entropy_safe(x: Tensor) -> Tensor:
    """Entropy with 0 ln 0 = 0: finite for every finite logit."""
    p = torch.softmax(x, -1)
    return -torch.where(p == 0, torch.zeros_like(p), p * torch.log(p)).sum(-1)


ENTROPIES = {
    "naive": entropy_naive,
    "exp": entropy_exp,
    "categorical": entropy_categorical,
    "safe": entropy_safe,
}


# --- rules --------------------------------------------------------------------------------------


def deebert_rule(
    highways: Sequence[Tensor],
    main: Tensor,
    thresholds: float | Sequence[float],
    entropy: str = "naive",
) -> Decision:
    """DeeBERT: leave at the first highway, the last included, whose entropy is below its threshold.

    Args:
        highways: Logits [labels] of every highway.
        main: Logits [labels] of the head after the last layer.
        thresholds: One for all, or one for each highway.
        entropy: A name in `ENTROPIES`.

    Returns:
        The decision; its signal is the entropy of the highway at the layer it was made.
    """
    count = len(highways)
    if not isinstance(thresholds, Sequence):
        thresholds = [thresholds] * count
    for i, x in enumerate(highways):
        signal = ENTROPIES[entropy](x).item()
        # The signal is float32, so the threshold is compared as float32 too.
        if signal < torch.tensor(thresholds[i], dtype=torch.float32).item():
            return Decision(i + 1, x, signal)
    return Decision(count, main, signal)


def pabee_rule(
    exits: Sequence[Tensor], patience: int, regression_threshold: float = 0.0
) -> Decision:
    """PABEE: leave once `patience` exits in a row agreed with the exit just before them.

    Args:
        exits: Logits [labels] of every exit; one label makes a regression.
        patience: Agreements wanted; below 1 nothing leaves early.
        regression_threshold: Two predictions agree if they differ by less than this.

    Returns:
        The decision; its signal is the count of agreements.
    """
    limit = torch.tensor(regression_threshold, dtype=torch.float32)
    count = 0
    for i, x in enumerate(exits):
        if i == 0:
            agree = False
        elif len(x) == 1:
            agree = bool((exits[i - 1] - x).abs().item() < limit.item())
        else:
            agree = bool(exits[i - 1].argmax() == x.argmax())
        count = count + 1 if agree else 0
        if patience > 0 and count == patience:
            break
    return Decision(i + 1, x, float(count))

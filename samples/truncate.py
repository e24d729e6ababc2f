"""Truncated texts, the simple way to compute less: keep the first tokens, drop the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy import ndarray

from choosing import Measured, choose

Inputs = dict[str, ndarray]  # int64 [batch, sequence] by name
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5)
LEAST = 2


def truncated(inputs: Inputs, share: float) -> Inputs:
    """The first tokens of each row, this share of them; the last one closes the text as before."""
    ids, mask = inputs["input_ids"].copy(), inputs["attention_mask"]
    tokens = mask.sum(1)
    left = np.maximum(np.ceil(share * tokens - 1e-4).astype(int), LEAST)
    rows = np.arange(len(ids))
    ids[rows, left - 1] = ids[rows, tokens - 1]
    longest = left.max()
    short = {name: array[:, :longest] for name, array in (inputs | {"input_ids": ids}).items()}
    return short | {"attention_mask": (np.arange(longest) < left[:, None]).astype(mask.dtype)}


def choose_shares(
    answer: Callable[[Inputs], tuple[ndarray, ndarray]],
    batches: Sequence[Inputs],
    expected: ndarray,
    losses: Iterable[float],
) -> dict[float, float]:
    """The smallest share of each text that loses at most `loss` points: loss -> share."""

    def measured(share: float) -> Measured:
        logits = [answer(truncated(inputs, share))[0] for inputs in batches]
        right = np.concatenate(logits).argmax(-1) == expected
        return Measured(share, 100 * float(right.mean()), share)

    full, *tried = (measured(share) for share in (1.0, *SHARES))
    return {loss: choose(full, tried, loss).value for loss in losses}

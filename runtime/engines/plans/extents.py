"""How many tokens stay, computed on the host: TensorRT wants to know it before a segment runs.

Where the knob `lengths` drops tokens, the extent of what follows depends on the mask and on the
knob alone. Any number from the exact one to that of the tokens that are there gives the same
answers, so it is rounded up, and few shapes occur.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from effbert.runtime.engines.plans.executable import Extent

BUCKET = 16  # tokens


def kept_tokens(mask: ndarray, lengths: ndarray, extent: Extent) -> int:
    """Return how many tokens of the longest row are left behind a layer.

    Args:
        mask: Attention mask of the rows that are there, int64 [batch, sequence].
        lengths: Values of the knob, float32 [layers]: up to 1 a share of the row's tokens.
        extent: Which layer, and how the graph rounds.
    """
    if extent.total is None:
        total = mask.sum(axis=1).astype(np.float32)
    else:
        total = np.full(len(mask), extent.total, np.float32)
    there = total
    for length in lengths[: extent.element + 1].astype(np.float32):
        share = np.maximum(np.ceil(length * total - np.float32(extent.slack)), extent.least)
        stay = share if length <= 1 else np.full_like(total, np.trunc(length))
        there = np.minimum(stay, there)
    return int(there.max(initial=1))


def rounded_up(tokens: int, there: int) -> int:
    """Round up to a bucket, but to no more than there are."""
    return min(-(-tokens // BUCKET) * BUCKET, there)

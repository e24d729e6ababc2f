"""How much a row's answer depends on the rows beside it: a property of engine and precision.

Engines choose kernels by the size of the batch, and kernels add up numbers in different orders.
"""

from __future__ import annotations

import math

EXACT = 2e-6
PRECISION = "fp32"  # of every bundle so far
# Largest difference of a logit (logits up to 7) between a row alone and the same row in batches
# of other rows and paddings, all exits of a MiniLM and a BERT-base, rounded up.
DIFFERENCES = {
    ("onnxruntime", "fp32"): 0.0,
    ("openvino", "fp32"): 2e-5,
}


def row_independence(engine: str, precision: str = PRECISION) -> str:
    """Says "exact" (up to 2e-6), "bounded" with the largest difference of a logit, or "none"."""
    difference = DIFFERENCES.get((engine, precision), math.inf)
    if difference <= EXACT:
        return "exact"
    return f"bounded: {difference:g}" if math.isfinite(difference) else "none"

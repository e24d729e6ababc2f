"""How much a row's answer depends on the rows beside it: a property of engine and precision.

Engines choose kernels by the size of the batch, and kernels add up numbers in different orders.
"""

from __future__ import annotations

import math

EXACT = 2e-6
NONE, NOT_MEASURED = "none", "not measured"
# Largest difference of a logit (logits up to 7) between a row alone and the same row in batches
# of other rows and paddings, all exits of a MiniLM and a BERT-base, rounded up.
DIFFERENCES = {
    ("onnxruntime", "fp32"): 0.0,
    ("onnxruntime", "fp16"): 0.0,
    ("onnxruntime", "bf16"): 0.0,
    ("onnxruntime", "int8"): 0.0,
    ("onnxruntime", "int8-weight"): 0.0,
    ("onnxruntime", "int4-weight"): 0.0,
    # The native library feeds onnxruntime the same, and gives the same bytes.
    ("native", "fp32"): 0.0,
    ("native", "fp16"): 0.0,
    ("native", "bf16"): 0.0,
    ("native", "int8"): 0.0,
    ("native", "int8-weight"): 0.0,
    ("native", "int4-weight"): 0.0,
    ("openvino", "fp32"): 2e-5,
    ("openvino", "fp16"): 2e-5,
    ("openvino", "bf16"): 5e-2,
    ("openvino", "int8"): 5e-2,
}


def spell_rows(engine: str) -> str:
    """Write the row independence of an engine at every precision, for people."""
    by_degree: dict[str, list[str]] = {}
    for known, precision in DIFFERENCES:
        if known == engine:
            by_degree.setdefault(row_independence(engine, precision), []).append(precision)
    if not by_degree:
        return NOT_MEASURED
    if len(by_degree) == 1:
        return f"{next(iter(by_degree))} at every precision"
    return "; ".join(f"{degree} at {', '.join(which)}" for degree, which in by_degree.items())


def row_independence(engine: str, precision: str, measured: float | None = None) -> str:
    """Say how much a logit may differ between a row alone and the same row in a batch.

    Args:
        engine: Its name.
        precision: Of the bundle.
        measured: What was measured on this device, if the engine knows; else the table decides.

    Returns:
        "exact" (up to 2e-6), "bounded" with the largest difference, "none", or "not measured".
    """
    difference = DIFFERENCES.get((engine, precision)) if measured is None else measured
    if difference is None:
        return NOT_MEASURED
    if difference <= EXACT:
        return "exact"
    return f"bounded: {difference:g}" if math.isfinite(difference) else NONE

"""Merge equal weights: the tracer leaves one each time it transposes a weight that layers share."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

SAMPLE = 64


def deduplicate_weights(model: ir.Model) -> int:
    """Let equal initializers share one value, in place (ALBERT's layers, shared poolers).

    A sample of the values finds candidates, so that weights without a twin are never read whole.

    Returns:
        How many weights were merged into another.
    """
    merged = 0
    groups: dict[tuple[object, ...], list[ir.Value]] = {}
    for value in list(model.graph.initializers.values()):
        array = value.const_value.numpy()
        flat = array.reshape(-1)
        sample = flat[:: max(1, flat.size // SAMPLE)][:SAMPLE].tobytes()
        twins = groups.setdefault((array.shape, array.dtype.str, sample), [])
        for twin in twins:
            if np.array_equal(twin.const_value.numpy(), array):
                ir.convenience.replace_all_uses_with(value, twin)
                del model.graph.initializers[value.name]
                merged += 1
                break
        else:
            twins.append(value)
    return merged

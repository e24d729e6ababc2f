"""bfloat16, which numpy does not have: the upper half of a float32, held as uint16."""

from __future__ import annotations

import numpy as np

HALF = np.dtype(np.uint16)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round float32 to bfloat16, to even where two are as near."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(HALF)


def from_bfloat16(values: np.ndarray) -> np.ndarray:
    """Return the float32 values of bfloat16."""
    return (values.astype(np.uint32) << 16).view(np.float32)

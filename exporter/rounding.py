"""Round weights so that their products, not the weights themselves, stay what they were."""

from __future__ import annotations

import numpy as np

from effbert.graph_passes.int8 import LARGEST, column_scales

DAMPING = 0.01  # of the mean of the diagonal, as in the paper
BLOCK = 32  # rows whose errors are carried on together


def round_for(vectors: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round a weight to int8, each row making up for the rounding of those before.

    GPTQ (Frantar et al., ICLR 2023, algorithm 1): row by row, what a rounding changes in the
    products of the vectors is taken out again by the rows that are not rounded yet.

    Args:
        vectors: float32 [n, in], what the weight is multiplied with.
        weight: float32 [in, out].

    Returns:
        int8 [in, out] and the float32 scale of each column [out].
    """
    scales = column_scales(weight)
    left = weight.astype(np.float64)
    levels = np.empty(weight.shape, np.int8)
    carry = _carry(vectors.astype(np.float64))
    for start in range(0, len(weight), BLOCK):
        rows = slice(start, start + BLOCK)
        block, errors = left[rows], np.empty_like(left[rows])
        for k, row in enumerate(block):
            i = start + k
            levels[i] = np.clip(np.rint(row / scales), -LARGEST, LARGEST)
            errors[k] = (row - levels[i] * scales) / carry[i, i]
            block[k + 1 :] -= np.outer(carry[i, i + 1 : start + len(block)], errors[k])
        left[start + BLOCK :] -= carry[rows, start + BLOCK :].T @ errors
    return levels, scales


def _carry(vectors: np.ndarray) -> np.ndarray:
    """How the error of each row is spread over those after it: upper triangular [in, in]."""
    hessian = vectors.T @ vectors
    diagonal = np.diag_indices_from(hessian)
    damping = DAMPING * float(hessian[diagonal].mean())
    hessian[diagonal] += damping or 1.0
    return np.linalg.cholesky(np.linalg.inv(hessian)).T

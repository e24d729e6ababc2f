"""Round weights so that their products, not the weights themselves, stay what they were."""

from __future__ import annotations

import numpy as np

from effbert.graph_passes.int8 import LARGEST, column_scales

DAMPING = 0.01  # of the mean of the diagonal, as in the paper
BLOCK = 32  # rows whose errors are carried on together


def round_with(spread: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round a weight to int8, each row making up for the rounding of those before.

    GPTQ (Frantar et al., ICLR 2023, algorithm 1): row by row, what a rounding changes in the
    products of vectors is taken out again by the rows that are not rounded yet.

    Args:
        spread: What `error_spread` gives for the vectors that the weight is multiplied with.
        weight: float32 [in, out].

    Returns:
        int8 [in, out] and the float32 scale of each column [out].
    """
    scales = column_scales(weight)
    left = weight.copy()
    levels = np.empty(weight.shape, np.int8)
    for start in range(0, len(weight), BLOCK):
        rows = slice(start, start + BLOCK)
        block, errors = left[rows], np.empty_like(left[rows])
        for k, row in enumerate(block):
            i = start + k
            levels[i] = np.clip(np.rint(row / scales), -LARGEST, LARGEST)
            errors[k] = (row - levels[i] * scales) / spread[i, i]
            block[k + 1 :] -= np.outer(spread[i, i + 1 : start + len(block)], errors[k])
        left[start + BLOCK :] -= spread[rows, start + BLOCK :].T @ errors
    return levels, scales


def error_spread(vectors: np.ndarray) -> np.ndarray:
    """How the error of each row of a weight is spread over those after it.

    Args:
        vectors: float32 [n, in], what weights are multiplied with.

    Returns:
        Upper triangular float32 [in, in]: of the inverse of `vectors.T @ vectors`, damped.
    """
    wide = vectors.astype(np.float64)
    count, size = wide.shape
    damping = DAMPING * float(np.square(wide).sum()) / size or 1.0
    if count < size:  # the same by the matrix inversion lemma, with a smaller matrix to invert
        small = wide @ wide.T
        small[np.diag_indices(count)] += damping
        inverse = wide.T @ np.linalg.solve(small, wide) / -damping
        inverse[np.diag_indices(size)] += 1 / damping
    else:
        hessian = wide.T @ wide
        hessian[np.diag_indices(size)] += damping
        inverse = np.linalg.inv(hessian)
    return np.linalg.cholesky(inverse).T.astype(np.float32)

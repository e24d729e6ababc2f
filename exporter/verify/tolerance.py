"""How far answers may be from those of torch: by their scale, as rounding is.

As numpy's allclose: an absolute part, which follows the answers that are usual at an exit, and a
relative one, which follows each number. Where that is not enough, float64 decides: torch in float32
is wrong by some rounding too, and a bundle that is wrong by little more computes the same model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

TIMES = 8  # as far from float64 as torch's float32
LEAST = 1e-7  # where all answers are 0


class Tolerance(NamedTuple):
    """The difference allowed at each exit, float64 [exits], and per number on top of that."""

    absolute: np.ndarray
    relative: float

    def widest(self) -> Tolerance:
        """Return the same with the difference of the most generous exit at a single one."""
        return Tolerance(self.absolute.max(keepdims=True), self.relative)

    def widened(self, differences: np.ndarray) -> Tolerance:
        """Allow twice these differences at each exit, which float64 has explained."""
        return Tolerance(np.maximum(self.absolute, 2 * differences), self.relative)

    def allowed(self, expected: np.ndarray, exits: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Tell how far each number may be from the `expected` ones, [exits, ...]."""
        absolute = self.absolute[exits].reshape(-1, *[1] * (expected.ndim - 1))
        allowed: np.ndarray = absolute + self.relative * np.abs(expected)
        return allowed


def scaled(answers: Mapping[str, Sequence[np.ndarray]], exits: int, relative: float) -> Tolerance:
    """Allow a share of what answers are, per row [exits, ...]; of the usual ones, and of each."""
    per_exit = [
        np.concatenate(
            [np.abs(row[index]).ravel() for rows in answers.values() for row in rows if row.size]
        )
        for index in range(exits)
    ]
    usual = [np.median(values) if values.size else 0.0 for values in per_exit]
    return Tolerance(np.maximum(relative * np.array(usual, np.float64), LEAST), relative)


def fixed(atol: float, exits: int) -> Tolerance:
    """Allow what the user says, whatever the answers are."""
    return Tolerance(np.full(exits, atol), 0.0)

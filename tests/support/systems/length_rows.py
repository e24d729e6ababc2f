"""Rows for models that drop tokens: many lengths, and padding with an ordinary token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rows(count: int, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(5, 60, random.integers(2, 40)).tolist() for _ in range(count)]


def batch(part: Sequence[Sequence[int]], extra: int = 0) -> dict[str, np.ndarray]:
    shape = len(part), max(map(len, part)) + extra
    ids, mask = np.full(shape, 7, np.int64), np.zeros(shape, np.int64)
    for i, row in enumerate(part):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}

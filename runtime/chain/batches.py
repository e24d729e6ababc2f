"""Which rows run together: few enough for the memory, equally long where padding is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from effbert.runtime.bundle.names import IDS, MASK
from effbert.runtime.chain.inputs import Batch
from effbert.runtime.engines.protocol import UNLIMITED, ShapeLimits
from effbert.runtime.errors import InputError, ResourceError

Tensors = dict[str, np.ndarray]


def split_batch(
    batch: Batch,
    padding_free: bool,
    max_tokens: int,
    shortest: int = 2,
    limits: ShapeLimits = UNLIMITED,
) -> Iterable[tuple[np.ndarray, Tensors]]:
    """Split a batch into parts that run one after the other.

    Args:
        batch: Checked inputs.
        padding_free: Whether padding leaves the answers alone; if not, rows of equal length run
            together, without any.
        max_tokens: Tokens of a part, padding included; a part has one row at least.
        shortest: Tokens that a row must have where padding is left out.
        limits: Of the engine.

    Returns:
        The indices of the rows in the batch, and their inputs.

    Raises:
        InputError: Padding would be seen and is not at the end of the rows, or a row is too short
            for the model or too long for the engine.
    """
    tensors, rows, length = batch
    if limits.length is not None and length > limits.length:
        raise InputError(
            f"Input '{IDS}': got {length} tokens a row, this engine was prepared for up to "
            f"{limits.length}; prepare it for longer rows, or choose another engine."
        )
    if not padding_free:
        return _split(batch, _equal_lengths(tensors[MASK], shortest), max_tokens, limits)
    every = _indices(rows)
    if 0 < rows * length <= max_tokens and (
        limits is UNLIMITED or rows <= (limits.rows_of(length) or rows)
    ):
        return [(every, tensors)]
    return _split(batch, [(every, length)], max_tokens, limits)


@lru_cache(maxsize=8)  # so that a row alone, over and over, does without numpy's machinery
def _indices(rows: int) -> np.ndarray:
    indices = np.arange(rows)
    indices.flags.writeable = False
    return indices


def _split(
    batch: Batch, groups: Iterable[tuple[np.ndarray, int]], max_tokens: int, limits: ShapeLimits
) -> Iterator[tuple[np.ndarray, Tensors]]:
    for members, length in groups:
        size = max(1, min(max_tokens // length, limits.rows_of(length) or batch.rows))
        for start in range(0, len(members), size):
            rows = members[start : start + size]
            if len(rows) == batch.rows and length == batch.length:
                yield rows, batch.tensors
            else:
                yield (
                    rows,
                    {
                        name: np.ascontiguousarray(value[rows, :length])
                        for name, value in batch.tensors.items()
                    },
                )


def by_length(lengths: Sequence[int], rows: int) -> Iterator[list[int]]:
    """Group rows of similar length into batches, so that little padding is computed.

    Args:
        lengths: Tokens of each row.
        rows: How many rows a batch may have.

    Yields:
        The indices of the rows of a batch; the shortest rows come first.

    Raises:
        InputError: `rows` is below 1.
    """
    if rows < 1:
        raise InputError(f"Rows of a batch: got {rows}, expected 1 or more.")
    shortest_first = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(lengths), rows):
        yield shortest_first[start : start + rows]


def run_halving(run: Callable[..., None], tensors: Tensors, rows: np.ndarray, *others: Any) -> None:
    """Run the rows together, or in halves if the memory does not suffice for all of them.

    Args:
        run: Called with tensors, rows and the others.
        tensors: Inputs of the rows.
        rows: Their indices.
        others: What else `run` wants.

    Raises:
        ResourceError: It does not suffice for a single row.
    """
    try:
        run(tensors, rows, *others)
    except (ResourceError, MemoryError):
        if len(rows) == 1:
            raise
        middle = len(rows) // 2
        for part in (slice(middle), slice(middle, None)):
            half = {name: value[part] for name, value in tensors.items()}
            run_halving(run, half, rows[part], *others)


def _equal_lengths(mask: np.ndarray, shortest: int) -> Iterator[tuple[np.ndarray, int]]:
    lengths = mask.sum(axis=1)
    if not np.array_equal(mask, np.arange(mask.shape[1]) < lengths[:, None]):
        raise InputError(
            "Input 'attention_mask': this model computes padding too, so rows are run at their own "
            "length; expected ones followed by zeros in every row."
        )
    if (lengths < shortest).any():
        row = int(np.argmin(lengths))
        raise InputError(
            f"Input 'attention_mask': row {row} has {lengths[row]} tokens, expected {shortest} or "
            "more."
        )
    for length in np.unique(lengths):
        yield np.flatnonzero(lengths == length), int(length)

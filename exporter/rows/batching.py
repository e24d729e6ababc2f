"""Rows as batches: padded, of similar or of equal length, or alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from effbert.exporter.rows.rows import Row
from effbert.runtime import Session
from effbert.runtime.bundle.names import IDS, MASK, NO_WORD, TYPES, WORDS

BATCH = 16
ALONE = 8
SHORT = 64


def session_batch(rows: Sequence[Row], session: Session) -> dict[str, np.ndarray]:
    """Pad rows to one int64 batch of a session's inputs."""
    manifest = session.bundle.manifest
    return padded_batch(rows, manifest.limits.pad_id, [item.name for item in manifest.inputs])


def padded_batch(rows: Sequence[Row], pad_id: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Pad rows at the end to int64 [rows, longest], for each named input."""
    shape = len(rows), max(len(row.input_ids) for row in rows)
    every = {name: np.zeros(shape, np.int64) for name in (IDS, MASK, TYPES)}
    every[IDS] += pad_id
    every[WORDS] = np.full(shape, NO_WORD, np.int64)
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        every[IDS][index, :length] = row.input_ids
        every[MASK][index, :length] = 1
        every[TYPES][index, :length] = row.token_type_ids
        every[WORDS][index, :length] = row.word_map
    return {name: every[name] for name in names}


def similar_lengths(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Batches that need padding, but never more than as many padding tokens as real ones."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda i: len(rows[i].input_ids)):
        if batch and (
            len(batch) == BATCH or len(rows[index].input_ids) > 2 * len(rows[batch[0]].input_ids)
        ):
            yield batch
            batch = []
        batch.append(index)
    yield batch


def short_rows(rows: Sequence[Row]) -> list[int]:
    """Return the indices of the rows that are quick to run."""
    return [index for index, row in enumerate(rows) if len(row.input_ids) <= SHORT]


def rows_alone(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Yield a few short rows, one at a time."""
    short = short_rows(rows)
    yield from ([index] for index in short[:: len(short) // ALONE + 1])


def equal_lengths(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Batches that need no padding."""
    lengths: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        lengths.setdefault(len(row.input_ids), []).append(index)
    for members in lengths.values():
        for start in range(0, len(members), BATCH):
            yield members[start : start + BATCH]

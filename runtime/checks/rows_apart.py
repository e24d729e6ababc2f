"""Measure on this device how much a row's answer depends on the rows beside it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from effbert.runtime.bundle.manifest import Golden
from effbert.runtime.chain.batches import by_length
from effbert.runtime.session import Session

BATCHES = (2, 7, 16)
ROWS = 24
SEED = 0
Row = dict[str, np.ndarray]


def rows_apart(session: Session) -> float:
    """Return the largest difference of an answer between a row alone and in batches, at any exit.

    The rows are the golden ones, cut to many lengths, in batches of several sizes and two orders.
    """
    rows = _rows(session)
    alone = [session.run_exits(row) for row in rows]
    lengths = [row["input_ids"].shape[1] for row in rows]
    shuffled = np.random.default_rng(SEED).permutation(len(rows)).tolist()
    worst = 0.0
    for size in BATCHES:
        for order in (range(len(rows)), shuffled):
            for part in by_length([lengths[k] for k in order], size):
                members = [order[k] for k in part]
                for name, values in session.run_exits(_padded(session, rows, members)).items():
                    for column, row in enumerate(members):
                        expected = alone[row][name][:, 0]
                        found = values[:, column]
                        if found.shape != expected.shape:  # an answer a token
                            found = found[:, : expected.shape[1]]
                        worst = max(worst, float(np.abs(found - expected).max(initial=0.0)))
    return worst


def _rows(session: Session) -> list[Row]:
    golden = session.bundle.manifest.golden
    return [row for _, row in zip(range(ROWS), _cut(golden, session), strict=False)]


def _cut(golden: list[Golden], session: Session) -> Iterator[Row]:
    """Give golden rows, then ever shorter beginnings of them with their last token."""
    shortest = session.bundle.manifest.limits.min_length
    step = 0
    while any(len(row.input_ids) - step >= shortest for row in golden):
        for row in golden:
            length = len(row.input_ids) - step
            if length < shortest:
                continue
            chosen = [*range(length - 1), len(row.input_ids) - 1]
            arrays = {
                "input_ids": row.input_ids,
                "token_type_ids": row.token_type_ids,
                "word_map": row.word_map,
            }
            yield {
                name: np.array([[values[k] for k in chosen]], np.int64)
                for name, values in arrays.items()
                if values is not None
            }
        step += 1


def _padded(session: Session, rows: list[Row], members: list[int]) -> Row:
    length = max(rows[k]["input_ids"].shape[1] for k in members)
    fill = {"input_ids": session.bundle.manifest.limits.pad_id, "word_map": -1}
    batch = {name: np.full((len(members), length), fill.get(name, 0), np.int64) for name in rows[0]}
    batch["attention_mask"] = np.zeros((len(members), length), np.int64)
    for line, k in enumerate(members):
        own = rows[k]["input_ids"].shape[1]
        batch["attention_mask"][line, :own] = 1
        for name, values in rows[k].items():
            batch[name][line, :own] = values[0]
    return batch

"""Golden rows: answers stored in the manifest so that any host can check itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from effbert.exporter.models.exit_model import WORD_MAP
from effbert.exporter.rows.batching import session_batch
from effbert.exporter.rows.rows import Row, text_parts
from effbert.runtime import Session
from effbert.runtime.bundle.manifest import Golden

COUNT = 3
MAX_TOKENS = 64


def golden_rows(session: Session, rows: Sequence[Row]) -> list[Golden]:
    """Run three short rows, texts first, each alone, and keep every exit's outputs."""
    short = [row for row in rows if len(row.input_ids) <= MAX_TOKENS][:COUNT]
    inputs = {item.name for item in session.bundle.manifest.inputs}
    return [
        Golden(
            text=None if row.text is None else text_parts(row.text),
            input_ids=row.input_ids,
            token_type_ids=row.token_type_ids if "token_type_ids" in inputs else None,
            word_map=row.word_map if WORD_MAP in inputs else None,
            outputs={
                name: _short(value[:, 0])
                for name, value in session.run_exits(session_batch([row], session)).items()
            },
        )
        for row in short
    ]


def _short(values: np.ndarray) -> list[Any]:
    """Nested lists of the shortest decimals that are the same float32."""
    if values.ndim > 1:
        return [_short(part) for part in values]
    return [float(str(value)) for value in values]

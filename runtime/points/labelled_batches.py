"""Labelled texts as batches of token ids, and where the answers to compare with stand."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.errors import InputError
from effbert.runtime.session import ROWS_OF_TEXT
from effbert.runtime.texts.files import read_labelled, read_labelled_words
from effbert.runtime.texts.tokenization import TextEncoder
from effbert.runtime.texts.words import first_pieces


class LabelledBatch(NamedTuple):
    """Texts of similar length.

    Attributes:
        inputs: Of a session, int64 [rows, sequence].
        tokens: int64 [rows], tokens of each row.
        indices: Indices into the logits: rows, or rows and tokens where each word has a label.
        labels: int64, the right class at each of the indices.
    """

    inputs: dict[str, np.ndarray]
    tokens: np.ndarray
    indices: tuple[np.ndarray, ...]
    labels: np.ndarray


def read_batches(bundle: Bundle, path: Path) -> list[LabelledBatch]:
    """Read a CSV file and tokenize it, short texts first, as a session batches texts.

    For a bundle that labels words, the column `label` holds one label a word, blanks between; the
    first piece of a word answers for it, and words that were cut off are left out.

    Raises:
        InputError: The bundle does not classify or has no tokenizer, or the file does not fit it.
    """
    manifest = bundle.manifest
    _check(manifest)
    names = manifest.labels or [f"LABEL_{index}" for index in range(_classes(manifest))]
    by_word = manifest.task == "token-classification"
    encoder = TextEncoder(bundle)
    if by_word:
        words = read_labelled_words(path, names)
        encoded, answers = encoder.encode(words.texts), words.labels
    else:
        data = read_labelled(path, names)
        encoded, answers = encoder.encode(data.texts), [[label] for label in data.labels]
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index].ids))
    batches = []
    for start in range(0, len(order), ROWS_OF_TEXT):
        part = order[start : start + ROWS_OF_TEXT]
        rows = [encoded[index] for index in part]
        found = [
            (row, piece, answers[index][word])
            for row, index in enumerate(part)
            for word, piece in (first_pieces(encoded[index]) if by_word else {0: 0}).items()
        ]
        at, pieces, labels = np.array(found, dtype=np.int64).reshape(-1, 3).T
        tokens = np.array([len(row.ids) for row in rows])
        indices = (at, pieces) if by_word else (at,)
        batches.append(LabelledBatch(encoder.padded(rows), tokens, indices, labels))
    if not any(batch.labels.size for batch in batches):
        raise InputError(f"{path} holds no word that the model reads.")
    return batches


def _check(manifest: Manifest) -> None:
    if manifest.task == "question-answering" or manifest.problem not in ("single-label", None):
        raise InputError(
            f"A bundle for {manifest.problem or ''} {manifest.task} cannot be searched: a search "
            "counts how many texts or words get their one right label.".replace("  ", " ")
        )
    if manifest.tokenizer is None:
        raise InputError(
            "A bundle without a tokenizer cannot be searched; export it again with: "
            "effbert-export CHECKPOINT BUNDLE --tokenizer DIR."
        )


def _classes(manifest: Manifest) -> int:
    (logits,) = (item for item in manifest.segments[-1].outputs if item.name == "logits")
    return int(logits.axes[-1])

"""The rows of token ids that verification and golden vectors use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from effbert.runtime import Bundle, Text, TextEncoder, read_texts
from effbert.runtime.bundle.manifest import Limits
from effbert.runtime.bundle.names import NO_WORD
from effbert.runtime.errors import InputError

MAX_LINES = 100_000
RANDOM_ROWS = 16
RANDOM_LENGTH = 48
LONGEST = 256
SEED = 20


class Row(NamedTuple):
    """One row without padding: its tokens, its words, and the text it comes from.

    `word_map` tells for each token where the first piece of its word is, -1 for special tokens.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    word_map: list[int]
    text: Text | None = None


def shipped_texts() -> list[Text]:
    """Read the sentences that ship with effbert."""
    sentences = resources.files("effbert.exporter.rows") / "sentences.txt"
    return [*sentences.read_text("utf-8").splitlines()]


def odd_texts() -> list[str]:
    """Read texts at the edges: accents, scripts, emoji, control characters, long words, ..."""
    texts = resources.files("effbert.exporter.rows") / "odd_texts.json"
    return [*json.loads(texts.read_text("utf-8"))]


def file_texts(path: Path) -> list[Text]:
    """Read the texts of a file, without blank ones.

    Raises:
        InputError: The file cannot be read or holds no text.
    """
    found = read_texts(path, most=MAX_LINES)
    texts = [text for text in found if any(part.strip() for part in text_parts(text))]
    if not texts:
        raise InputError(f"{path} holds no text; write one text a line.")
    return texts


def text_parts(text: Text) -> list[str]:
    """Give the one text, or both of a pair."""
    return [text] if isinstance(text, str) else list(text)


def fit_texts(texts: Sequence[Text], task: str) -> list[Text]:
    """Give each text the form its task takes: pairs for question answering, singles for tokens."""
    if task == "question-answering":
        singles = [text for text in texts if isinstance(text, str)]
        pairs = [text for text in texts if not isinstance(text, str)]
        return [*pairs, *zip(singles[::2], singles[1::2], strict=False)]
    if task == "token-classification":
        return [text if isinstance(text, str) else text[0] for text in texts]
    return list(texts)


def text_rows(texts: Sequence[Text], encoder: TextEncoder, limits: Limits) -> list[Row]:
    """Tokenize texts with the bundle's own tokenizer; rows too short for it are left out."""
    rows = [
        Row(e.ids, list(e.encoding.type_ids), e.word_map, e.text)
        for e in encoder.encode(list(texts))
    ]
    return [row for row in rows if len(row.input_ids) >= limits.min_length]


def bundle_rows(bundle: Bundle, texts: Sequence[Text]) -> list[Row]:
    """Tokenize texts in the form the task takes; none without a tokenizer."""
    manifest = bundle.manifest
    if manifest.tokenizer is None:
        return []
    return text_rows(fit_texts(texts, manifest.task), TextEncoder(bundle), manifest.limits)


def sample_rows(bundle: Bundle) -> list[Row]:
    """Tokenize the sentences that ship with effbert, as far as they fit; none without a tokenizer.

    The user never saw them, so whatever a model cannot take of them is left out.
    """
    manifest = bundle.manifest
    if manifest.tokenizer is None:
        return []
    encoder = TextEncoder(bundle)
    texts = fit_texts(shipped_texts(), manifest.task)
    return [row for text in texts for row in _first_fit(text, encoder, manifest.limits)]


def _first_fit(text: Text, encoder: TextEncoder, limits: Limits) -> list[Row]:
    """Tokenize a text, a pair with as much of its first part as leaves room for the second."""
    question = [] if isinstance(text, str) else text[0].split()
    for words in (len(question), 4, 2, 1, 0):
        short = text if isinstance(text, str) else (" ".join(question[:words]), text[1])
        try:
            rows = text_rows([short], encoder, limits)
        except InputError:
            continue
        # Special tokens alone may be more than a model takes.
        return [row for row in rows if len(row.input_ids) <= limits.max_length]
    return []


def random_rows(limits: Limits) -> list[Row]:
    """Draw rows of the fewest tokens up to the most; padding ids are avoided inside a row."""
    random = np.random.default_rng(SEED)
    longest = min(limits.max_length, LONGEST)
    shortest, usual = limits.min_length, max(limits.min_length, min(RANDOM_LENGTH, longest))
    lengths = [shortest, longest, *random.integers(shortest, usual + 1, RANDOM_ROWS - 2)]
    rows = []
    for length in lengths:
        ids = random.integers(0, limits.vocab_size, length)
        ids[ids == limits.pad_id] = (limits.pad_id + 1) % limits.vocab_size
        half = int(random.integers(1, length)) if limits.type_vocab_size > 1 else int(length)
        types = [int(position >= half) for position in range(length)]
        starts = random.integers(0, 3, length) > 0  # words of one and a half pieces on average
        starts[:2] = True
        words = np.maximum.accumulate(np.where(starts, np.arange(length), 0))
        words[[0, -1]] = NO_WORD
        rows.append(Row([int(i) for i in ids], types, words.tolist()))
    return rows

"""Texts to token ids, with the tokenizer of the bundle.

The tokenizer is configured once, when the session opens: changing truncation or padding for each
call gives wrong lengths, without any error, as soon as two threads do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.names import IDS, MASK, NO_WORD, TYPES, WORDS
from effbert.runtime.errors import BundleError, InputError

Text = str | tuple[str, str]
QUESTION_ANSWERING = "question-answering"
# Tokenizers are linear in the text but slow; beyond this many characters for each token the model
# reads, a text is cut before it is tokenized. It bounds the time, not the meaning.
CHARACTERS_A_TOKEN = 32


class EncodedText(NamedTuple):
    """One tokenized text: its ids, the tokenizer's full account of it, and whether it was cut."""

    text: Text
    ids: list[int]
    encoding: Encoding
    truncated: bool

    @property
    def word_map(self) -> list[int]:
        """For each token the index of the first piece of its word; -1 for special tokens."""
        first: dict[tuple[int | None, int], int] = {}
        found = []
        for index, word in enumerate(self.encoding.word_ids):
            key = (self.encoding.sequence_ids[index], NO_WORD if word is None else word)
            found.append(NO_WORD if word is None else first.setdefault(key, index))
        return found


class TextEncoder:
    """Tokenizes texts and pairs; usable from many threads."""

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        assert manifest.tokenizer is not None
        file = manifest.tokenizer.file
        try:
            self._tokenizer = Tokenizer.from_buffer(bundle.read(file))
        except Exception as error:
            if isinstance(error, BundleError):
                raise
            raise BundleError(
                f"{file} is not a tokenizer that this version of the tokenizers library can read: "
                f"{str(error)[:200]}."
            ) from error
        self._pairs_only = manifest.task == QUESTION_ANSWERING
        self._texts_only = manifest.task == "token-classification"
        self._max_length = min(manifest.tokenizer.max_length, manifest.limits.max_length)
        self._pad = manifest.limits.pad_id
        self._shortest = manifest.limits.min_length
        self._inputs = {item.name for item in manifest.inputs} | {MASK}
        # "[SEP]" in a text is text; only the tokenizer itself may write special tokens.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_padding()
        strategy = "only_second" if self._pairs_only else "longest_first"
        self._tokenizer.enable_truncation(self._max_length, strategy=strategy)

    def encode(self, texts: Sequence[Text]) -> list[EncodedText]:
        """Tokenize a list of texts or pairs.

        Raises:
            InputError: `texts` is no list, or names the index of what is no valid text.
        """
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Sequence):
            raise InputError(f"Texts: got {type(texts).__name__}, expected a list of texts.")
        cut = [self._checked(index, text) for index, text in enumerate(texts)]
        try:
            if len(cut) == 1 and isinstance(cut[0], str):
                encodings = [self._tokenizer.encode(cut[0])]
            else:
                encodings = self._tokenizer.encode_batch(cut)
        except Exception as error:
            raise InputError(self._why(cut, error)) from error
        for index, item in enumerate(encodings):
            if len(item.ids) < self._shortest:
                raise InputError(
                    f"Text {index}: it has {len(item.ids)} tokens, this model needs "
                    f"{self._shortest} or more."
                )
        return [
            EncodedText(text, item.ids, item, short is not text or bool(item.overflowing))
            for text, short, item in zip(texts, cut, encodings, strict=True)
        ]

    def padded(self, encoded: Sequence[EncodedText]) -> dict[str, np.ndarray]:
        """Return inputs of a session, int64 [texts, longest], filled up with the padding token."""
        shape = len(encoded), max(len(item.ids) for item in encoded)
        ids = np.full(shape, self._pad, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        types = np.zeros(shape, dtype=np.int64)
        words = np.full(shape, NO_WORD, dtype=np.int64)
        for row, item in enumerate(encoded):
            ids[row, : len(item.ids)] = item.ids
            mask[row, : len(item.ids)] = 1
            types[row, : len(item.ids)] = item.encoding.type_ids
            if WORDS in self._inputs:
                words[row, : len(item.ids)] = item.word_map
        arrays = {IDS: ids, MASK: mask, TYPES: types, WORDS: words}
        return {name: value for name, value in arrays.items() if name in self._inputs}

    def _checked(self, index: int, text: Text) -> Text:
        if isinstance(text, str):
            if self._pairs_only:
                raise InputError(f"Text {index}: expected a pair (question, context).")
            return self._cut(index, text)
        if isinstance(text, (tuple, list)) and len(text) == 2:
            if self._texts_only:
                raise InputError(f"Text {index}: got a pair, this bundle labels single texts.")
            first, second = text
            short = self._cut(index, first), self._cut(index, second)
            return text if short[0] is first and short[1] is second else short
        raise InputError(
            f"Text {index}: got {type(text).__name__}, expected a string or a pair of strings."
        )

    def _cut(self, index: int, text: str) -> str:
        if not isinstance(text, str):
            raise InputError(f"Text {index}: got {type(text).__name__}, expected a string.")
        limit = CHARACTERS_A_TOKEN * self._max_length
        if len(text) > limit:
            text = text[:limit]
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"Text {index}: character {error.start} is half of a surrogate pair, which is not "
                "valid Unicode."
            ) from error
        return text

    def _why(self, texts: list[Text], error: Exception) -> str:
        for index, text in enumerate(texts):
            try:
                self._tokenizer.encode(*([text] if isinstance(text, str) else text))
            except Exception as single:
                reason = f"the tokenizer refuses it ({str(single)[:200]})"
                if self._pairs_only:
                    reason = f"the question leaves no room for the context ({str(single)[:200]})"
                return f"Text {index}: {reason}."
        return f"The tokenizer refuses these texts ({str(error)[:200]})."

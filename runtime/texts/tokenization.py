"""Texts to token ids, with the tokenizer of the bundle.

The tokenizer is configured once, when the session opens: changing truncation or padding for each
call gives wrong lengths, without any error, as soon as two threads do it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from effbert.runtime.bundle import manifest as records
from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.names import IDS, MASK, NO_WORD, TYPES, WORDS
from effbert.runtime.errors import BundleError, InputError
from effbert.runtime.texts.long_texts import TextCutter

Text = str | tuple[str, str]
QUESTION_ANSWERING = "question-answering"


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


class Encoder:
    """Tokenizes texts and pairs; usable from many threads."""

    def __init__(
        self,
        data: bytes,
        record: records.Tokenizer,
        limits: records.Limits,
        task: records.Task,
        inputs: Collection[str],
        special_tokens_in_text: bool = True,
    ) -> None:
        """Configure a tokenizer.

        Args:
            data: The bytes of tokenizer.json.
            record: What the manifest says about them.
            limits: The model's.
            task: It decides whether texts are pairs, and which of two texts is cut.
            inputs: Names of those that the model has.
            special_tokens_in_text: Read "[SEP]" in a text as the special token, if the checkpoint
                does; False reads it as text.

        Raises:
            BundleError: The tokenizers library cannot read it.
        """
        try:
            self._tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:
            raise BundleError(
                f"{record.file} is not a tokenizer that this version of the tokenizers library can "
                f"read: {str(error)[:200]}."
            ) from error
        self._pairs_only = task == QUESTION_ANSWERING
        self._texts_only = task == "token-classification"
        self._pad = limits.pad_id
        self._shortest = limits.min_length
        self._types = record.token_types
        self._inputs = {*inputs, MASK}
        special = special_tokens_in_text and record.special_tokens_in_text
        self._tokenizer.encode_special_tokens = not special
        self._tokenizer.no_padding()
        longest = min(record.max_length, limits.max_length)
        left = record.truncation_side == "left"
        self._cutter = TextCutter(self._tokenizer, longest, left, self._pairs_only)
        self._tokenizer.enable_truncation(
            longest,
            strategy="only_second" if self._pairs_only else "longest_first",
            direction=record.truncation_side,
        )

    def encode(self, texts: Iterable[Text]) -> list[EncodedText]:
        """Tokenize a list of texts or pairs.

        Args:
            texts: Anything that gives texts in an order: a list, an array, a Series, an iterator.

        Raises:
            InputError: `texts` has no order, or names the index of what is no valid text.
        """
        given = _in_order(texts)
        whole = [self._checked(index, text) for index, text in enumerate(given)]
        cut = [self._cut(index, text) for index, text in enumerate(whole)]
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
            for text, short, item in zip(whole, cut, encodings, strict=True)
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
            if self._types:
                types[row, : len(item.ids)] = item.encoding.type_ids
            if WORDS in self._inputs:
                words[row, : len(item.ids)] = item.word_map
        arrays = {IDS: ids, MASK: mask, TYPES: types, WORDS: words}
        return {name: value for name, value in arrays.items() if name in self._inputs}

    def _checked(self, index: int, text: Any) -> Text:
        if isinstance(text, str):
            if self._pairs_only:
                raise InputError(f"Text {index}: expected a pair (question, context).")
            return _checked_text(index, text)
        if isinstance(text, (tuple, list, np.ndarray)) and len(text) == 2:
            if self._texts_only:
                raise InputError(f"Text {index}: got a pair, this bundle labels single texts.")
            return _checked_text(index, text[0]), _checked_text(index, text[1])
        raise InputError(
            f"Text {index}: got {type(text).__name__}, expected a string or a pair of strings."
        )

    def _cut(self, index: int, text: Text) -> Text:
        if isinstance(text, str):
            return self._cutter.cut(index, text)
        first, second = self._cutter.cut_pair(index, *text)
        return text if first is text[0] and second is text[1] else (first, second)

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


class TextEncoder(Encoder):
    """The tokenizer of a bundle that has one."""

    def __init__(self, bundle: Bundle, special_tokens_in_text: bool = True) -> None:
        """Open it.

        Args:
            bundle: Its manifest names a tokenizer.
            special_tokens_in_text: As for `Encoder`.

        Raises:
            BundleError: The file is damaged, or the tokenizers library cannot read it.
        """
        manifest = bundle.manifest
        assert manifest.tokenizer is not None
        super().__init__(
            bundle.read(manifest.tokenizer.file),
            manifest.tokenizer,
            manifest.limits,
            manifest.task,
            [item.name for item in manifest.inputs],
            special_tokens_in_text,
        )


def _in_order(texts: Any) -> Sequence[Any]:
    """Make a list of whatever gives texts in an order.

    Raises:
        InputError: It is one text, or nothing that has an order.
    """
    if isinstance(texts, (list, tuple)):
        return texts
    kinds = (str, bytes, Mapping, Set)
    if isinstance(texts, kinds) or not isinstance(texts, Iterable):
        raise InputError(f"Texts: got {type(texts).__name__}, expected a list of texts.")
    return list(texts)


def _checked_text(index: int, text: Any) -> str:
    if not isinstance(text, str):
        raise InputError(f"Text {index}: got {type(text).__name__}, expected a string.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"Text {index}: character {error.start} is half of a surrogate pair, which is not "
            "valid Unicode."
        ) from error
    return text if type(text) is str else str(text)

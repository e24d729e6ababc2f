"""Check token ids, masks and token types before any engine sees them.

Engines accept too much: onnxruntime lets a negative token id wrap around, answers a sequence of
length zero, and takes the bytes of a big-endian array as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.bundle.names import IDS, MASK, NO_WORD, TYPES, WORDS
from effbert.runtime.errors import InputError

INT64 = np.dtype(np.int64)
USUAL = {MASK: 1, TYPES: 0}  # what fills most rows, and fits every bundle
FEW = 256  # values that plain Python looks at faster than numpy starts


class Batch(NamedTuple):
    """Checked inputs: name -> contiguous int64 [rows, length]; always with an attention mask."""

    tensors: dict[str, np.ndarray]
    rows: int
    length: int


class InputCheck:
    """What the inputs of one bundle must look like."""

    def __init__(self, manifest: Manifest) -> None:
        self._limits = manifest.limits
        self._shortest, self._longest = manifest.limits.min_length, manifest.limits.max_length
        self._missing = {item.name: item.missing for item in manifest.inputs}
        self._missing.setdefault(MASK, 1)
        types = max(1, self._limits.type_vocab_size)
        self._counts = {IDS: self._limits.vocab_size, MASK: 2, TYPES: types}

    def __call__(self, inputs: Mapping[str, Any]) -> Batch:
        """Check and normalise the inputs of one call.

        Args:
            inputs: Name to integers [batch, sequence]: arrays of any integer dtype, byte order and
                strides, or nested lists. The mask may be bool. What is missing and has a default
                in the manifest (mask: ones, token types: zeros) is filled in.

        Raises:
            InputError: A name, dtype, rank, shape or value does not fit; says which and why.
        """
        if type(inputs) is dict and self._are_plain(inputs):
            return Batch(inputs, *inputs[IDS].shape)
        if not isinstance(inputs, Mapping):
            raise InputError(
                f"Inputs: got {type(inputs).__name__}, expected a dict of name: integers "
                "[batch, sequence]; call the session itself to pass texts."
            )
        for name in inputs:
            if name not in self._missing and name != TYPES:
                raise InputError(f"Unknown input {name!r}; known are: {', '.join(self._missing)}.")
        if IDS not in inputs:
            raise InputError(f"Input '{IDS}' is missing.")
        ids = self._integers(IDS, inputs[IDS])
        self._check_range(IDS, ids, self._counts[IDS], "token ids")
        tensors = {IDS: ids}
        for name, missing in self._missing.items():
            if name == IDS:
                continue
            if name not in inputs:
                tensors[name] = self._filled(name, missing, ids)
                continue
            tensors[name] = value = self._like(ids, name, inputs[name])
            if name == MASK:
                _check_mask(value)
            elif name == TYPES:
                self._check_range(name, value, self._counts[TYPES], "token types")
        if TYPES in inputs and TYPES not in self._missing:
            # A tokenizer gives them to models that do not read them too.
            self._like(ids, TYPES, inputs[TYPES])
        if WORDS in tensors:
            tensors[WORDS] = _checked_words(tensors[WORDS], tensors[MASK])
        return Batch(tensors, *ids.shape)

    def _are_plain(self, inputs: dict[str, Any]) -> bool:
        """Tell quickly that these are a few rows and all is well; False: look closer."""
        ids = inputs.get(IDS)
        shape: tuple[int, ...] = ids.shape if type(ids) is np.ndarray else ()
        if len(inputs) != len(self._missing) or len(shape) != 2:
            return False
        length = shape[1]
        if not (0 < shape[0] * length <= FEW and self._shortest <= length <= self._longest):
            return False
        for name in self._missing:
            value = inputs.get(name)
            # Equal, not the same: arrays that were pickled have dtypes of their own.
            if type(value) is not np.ndarray or value.shape != shape or value.dtype != INT64:
                return False
            if not value.flags.c_contiguous:
                return False
            for row in value.tolist():
                if row.count(USUAL.get(name)) == length:
                    continue
                least, most = min(row), max(row)
                if least < 0 or most >= self._counts.get(name, 0) or (name == MASK and most == 0):
                    return False
        return True

    def _integers(self, name: str, value: Any) -> np.ndarray:
        shortest, longest = self._shortest, self._longest
        if (  # nothing to do, as most often
            type(value) is np.ndarray
            and value.dtype == INT64
            and value.ndim == 2
            and value.size
            and shortest <= value.shape[1] <= longest
            and value.flags.c_contiguous
        ):
            return value
        expected = f"expected integers [batch, {shortest}..{longest}]"
        try:
            array = np.asarray(value)
        except Exception as error:  # ragged lists, tensors on another device, ...
            if isinstance(value, (list, tuple)):
                raise InputError(
                    f"Input '{name}': its rows are ragged, of different lengths; pad them to one "
                    f"length, and say in '{MASK}' what is padding."
                ) from error
            raise InputError(
                f"Input '{name}': got {type(value).__name__} that is no array, {expected}."
            ) from error
        kinds = "iub" if name == MASK else "iu"
        if array.size == 0 and array.shape in ((0,), (0, 0)):
            array = np.zeros((0, shortest), dtype=np.int64)  # an empty batch, of whatever dtype
        if array.dtype.kind not in kinds or array.ndim != 2:
            raise InputError(f"Input '{name}': got {array.dtype} {list(array.shape)}, {expected}.")
        if not shortest <= array.shape[1] <= longest:
            long = array.shape[1] > longest
            way_out = "cut the rows, or pass texts, which are truncated" if long else "pad the rows"
            raise InputError(
                f"Input '{name}': got {array.shape[1]} tokens a row, {expected}; {way_out}."
            )
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise InputError(f"Input '{name}': got {array.max()}, which is not an int64.")
        return np.ascontiguousarray(array, dtype=np.int64)

    def _like(self, ids: np.ndarray, name: str, value: Any) -> np.ndarray:
        array = self._integers(name, value)
        if array.shape != ids.shape:
            raise InputError(
                f"Input '{name}': got shape {list(array.shape)}, expected that of '{IDS}', "
                f"{list(ids.shape)}."
            )
        return array

    def _filled(self, name: str, missing: int | None, ids: np.ndarray) -> np.ndarray:
        if missing is None:
            meaning = (
                ": for each token the index of its word's first piece, -1 for special tokens"
                if name == WORDS
                else ""
            )
            raise InputError(f"Input '{name}' is missing{meaning}.")
        filled = np.empty(ids.shape, dtype=np.int64)
        filled.fill(missing)
        return filled

    def _check_range(self, name: str, values: np.ndarray, count: int, what: str) -> None:
        if _below(values, count):
            return
        row, column = np.argwhere((values < 0) | (values >= count))[0]
        raise InputError(
            f"Input '{name}': got {values[row, column]} at [{row}, {column}], expected {what} "
            f"from 0 to {count - 1}."
        )


def _check_mask(mask: np.ndarray) -> None:
    if not _below(mask, 2):
        row, column = np.argwhere((mask < 0) | (mask > 1))[0]
        raise InputError(
            f"Input '{MASK}': got {mask[row, column]} at [{row}, {column}], expected 0 or 1."
        )
    read = mask.any(axis=1)
    if not read.all():
        raise InputError(
            f"Input '{MASK}': row {np.argmin(read)} has no 1, so there is nothing to read."
        )


def _checked_words(words: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Check that pieces point back to a first piece, and put padding outside all words."""
    words = np.where(mask == 1, words, NO_WORD)
    indices = np.arange(words.shape[1])
    pieces = words != NO_WORD
    first = np.take_along_axis(words, np.clip(words, 0, indices[-1]), axis=1) == words
    wrong = pieces & ~((words >= 0) & (words <= indices) & first)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"Input '{WORDS}': got {words[row, column]} at [{row}, {column}], expected the index "
            "of the word's first piece, which is its own, or -1 outside words."
        )
    return words


def _below(values: np.ndarray, count: int) -> bool:
    """Whether all of these int64 lie in [0, count): as unsigned numbers, negative ones are huge."""
    return not values.size or bool(values.view(np.uint64).max() < count)

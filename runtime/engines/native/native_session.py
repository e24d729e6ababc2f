"""A bundle that the native library has open."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Mapping, Sequence
from ctypes import byref, c_char_p, c_double, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from effbert.runtime.engines.native.interface import (
    Call,
    Ids,
    KnobValue,
    Options,
    SessionInfo,
    Text,
    TokenList,
)
from effbert.runtime.errors import (
    BundleError,
    CancelledError,
    EffbertError,
    EngineError,
    InputError,
    MissingDependencyError,
    NumericalError,
    ResourceError,
    RunError,
)

STATUSES: Mapping[int, type[EffbertError]] = {
    1: BundleError,
    2: InputError,
    4: CancelledError,
    5: ResourceError,
    6: EngineError,
    7: MissingDependencyError,
    8: RunError,
}
NUMERICAL = 3
ROWS = re.compile(r"Rows \[([\d, ]*)\] have (.*)", re.DOTALL)
NEVER = -1.0


class NativeKnob(NamedTuple):
    """Values of a knob: one, or as many as it takes; `integers` are counts of tokens."""

    values: Sequence[float]
    integers: bool = False


class NativeResult(NamedTuple):
    """The answers of one call, copied; see `Result` for what each is. `flags` is uint8 [rows]."""

    outputs: dict[str, np.ndarray]
    exit_index: np.ndarray
    exit_layer: np.ndarray
    signal: np.ndarray
    flags: np.ndarray


class NativeTokens(NamedTuple):
    """The tokens of one text."""

    ids: list[int]
    types: list[int]
    offsets: list[tuple[int, int]]
    truncated: bool


class NativeCancel:
    """Options of one call; setting `terminate` stops it, from any thread."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.handle = c_void_p()
        check(library, library.effbert_cancel_new(byref(self.handle)))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "terminate":
            check(self._library, self._library.effbert_cancel_now(self.handle))
        else:
            super().__setattr__(name, value)

    def __del__(self) -> None:
        self._library.effbert_cancel_free(self.handle)


class NativeSession:
    """An open bundle; see `effbert.h`. Usable from many threads."""

    def __init__(self, library: ctypes.CDLL, bundle: Path, **options: Any) -> None:
        """Open a bundle.

        Args:
            library: What `load_library` returned.
            bundle: Its folder.
            options: Fields of `effbert_options`, texts as bytes.

        Raises:
            EffbertError: The kind that the library's status stands for.
        """
        self._library = library
        self._handle = c_void_p()
        given = Options()
        check(library, library.effbert_options_init(byref(given), ctypes.sizeof(given)))
        for name, value in options.items():
            setattr(given, name, value)
        path = str(bundle).encode()
        check(library, library.effbert_open(path, byref(given), byref(self._handle)))

    def close(self) -> None:
        """Wait for the calls that are running, and free the segments; a second time is fine."""
        closing, self._handle = self._handle, c_void_p()
        if closing:
            check(self._library, self._library.effbert_close(closing))

    def info(self) -> SessionInfo:
        """Tell what is known of the session."""
        info = SessionInfo()
        check(self._library, self._library.effbert_info(self._handle, byref(info)))
        return info

    def run(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        knobs: Mapping[str, NativeKnob] | None = None,
        deadline_ms: float = NEVER,
        cancel: NativeCancel | None = None,
        every_exit: bool = False,
    ) -> NativeResult:
        """Answer token ids.

        Args:
            inputs: Name to contiguous int64 [rows, length].
            outputs: Names of the answers that are wanted.
            knobs: Values for this call.
            deadline_ms: Below 0 is none.
            cancel: Stops the call.
            every_exit: No row leaves; the rows of the first exit come first, then the others'.
        """
        rows, length = inputs["input_ids"].shape
        columns = {name: value.ctypes.data for name, value in inputs.items()}
        ids = Ids(rows=rows, length=length, **columns)
        call = _call(knobs or {}, deadline_ms, cancel, every_exit)
        result = c_void_p()
        run = self._library.effbert_run_ids
        check(self._library, run(self._handle, byref(ids), byref(call), byref(result)))
        return self._copied(result, outputs)

    def run_texts(
        self,
        texts: Sequence[str | tuple[str, str]],
        outputs: Sequence[str],
        knobs: Mapping[str, NativeKnob] | None = None,
        deadline_ms: float = NEVER,
    ) -> NativeResult:
        """Answer texts, tokenized by the library."""
        given = (Text * len(texts))(*map(_text, texts))
        call = _call(knobs or {}, deadline_ms, None, False)
        result = c_void_p()
        run = self._library.effbert_run_texts
        check(self._library, run(self._handle, given, len(texts), byref(call), byref(result)))
        return self._copied(result, outputs)

    def tokens(self, text: str | tuple[str, str], capacity: int = 8192) -> NativeTokens:
        """Tokenize a text or a pair."""
        arrays = [(c_int64 * capacity)() for _ in range(4)]
        found = TokenList(capacity=capacity)
        for name, array in zip(("ids", "types", "starts", "ends"), arrays, strict=True):
            setattr(found, name, ctypes.cast(array, ctypes.POINTER(c_int64)))
        given = _text(text)
        check(self._library, self._library.effbert_tokens(self._handle, byref(given), byref(found)))
        ids, types, starts, ends = (list(array[: found.count]) for array in arrays)
        return NativeTokens(ids, types, [*zip(starts, ends, strict=True)], bool(found.truncated))

    def _copied(self, result: c_void_p, names: Sequence[str]) -> NativeResult:
        library, count, values, size = self._library, c_int64(), c_void_p(), c_size_t()
        place = byref(values)
        try:
            check(library, library.effbert_result_rows(result, byref(count)))
            rows = count.value
            check(library, library.effbert_result_exits(result, place))
            exits = _array(values, (rows,), np.int64)
            check(library, library.effbert_result_layers(result, place, byref(size)))
            shape = (rows,) if size.value == rows else (rows, size.value // rows)
            layers = _array(values, shape, np.int64)
            check(library, library.effbert_result_signals(result, place))
            signal = _array(values, (rows,), np.float32)
            check(library, library.effbert_result_flags(result, place))
            flags = _array(values, (rows,), np.uint8)
            outputs = {name: self._output(result, name) for name in names}
        finally:
            library.effbert_result_free(result)
        return NativeResult(outputs, exits, layers, signal, flags)

    def _output(self, result: c_void_p, name: str) -> np.ndarray:
        library, values, shape, rank = self._library, c_void_p(), c_void_p(), c_size_t()
        read = library.effbert_result_output
        check(library, read(result, name.encode(), byref(values), byref(shape), byref(rank)))
        return _array(values, _array(shape, (rank.value,), np.int64).tolist(), np.float32)

    def label(self, result: c_void_p, row: int) -> tuple[str, float]:
        """Tell the best label of a row, and its score."""
        name, score = c_char_p(), c_double()
        read = self._library.effbert_result_label
        check(self._library, read(result, row, byref(name), byref(score)))
        return (name.value or b"").decode(), score.value


def check(library: ctypes.CDLL, status: int) -> None:
    """Raise the error that a status stands for.

    Raises:
        EffbertError: The status is not 0.
    """
    if status == 0:
        return
    message = (library.effbert_last_error() or b"").decode("utf-8", "replace")
    if status == NUMERICAL and (found := ROWS.fullmatch(message)):
        raise NumericalError([int(row) for row in found[1].split(", ")], found[2])
    raise STATUSES.get(status, EngineError)(message)


def _call(
    knobs: Mapping[str, NativeKnob], deadline_ms: float, cancel: NativeCancel | None, every: bool
) -> Call:
    values = [
        KnobValue(name.encode(), (c_double * len(each.values))(*each.values), len(each.values),
                  each.integers)
        for name, each in knobs.items()
    ]  # fmt: skip
    return Call(
        knobs=(KnobValue * len(values))(*values),
        knob_count=len(values),
        deadline_ms=deadline_ms,
        cancel=cancel.handle if cancel else None,
        every_exit=every,
    )


def _text(text: str | tuple[str, str]) -> Text:
    first, second = (text, None) if isinstance(text, str) else text
    one = first.encode("utf-8", "surrogatepass")
    two = None if second is None else second.encode("utf-8", "surrogatepass")
    return Text(one, len(one), two, len(two or b""))


def _array(values: c_void_p, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Copy numbers; a byte string is the quickest way that ctypes has."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size == 0:
        return np.zeros(shape, dtype)
    data = bytearray(ctypes.string_at(values.value, size))  # type: ignore[arg-type]
    return np.frombuffer(data, dtype).reshape(shape)

"""The C interface of the native library, `effbert.h`, as ctypes has it."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int32, c_int64, c_size_t
from ctypes import c_void_p as handle
from typing import Any, ClassVar

TRUNCATED, DEADLINE = 1, 2


class _Sized(ctypes.Structure):
    """A struct that begins with its size."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(size=ctypes.sizeof(type(self)), **fields)


class Options(_Sized):
    """`effbert_options`."""

    _fields_: ClassVar = [
        ("size", c_size_t),
        ("onnxruntime", c_char_p),
        ("operating_point", c_char_p),
        ("device", c_char_p),
        ("max_batch_tokens", c_int64),
        ("threads", c_int32),
        ("pool", c_int32),
        ("special_tokens_in_text", c_int32),
    ]


class SessionInfo(_Sized):
    """`effbert_session_info`."""

    _fields_: ClassVar = [
        ("size", c_size_t),
        *((name, c_char_p) for name in ("task", "problem", "precision", "source", "onnxruntime")),
        *((name, c_int64) for name in ("exits", "labels", "outputs", "knobs")),
        *((name, c_int64) for name in ("min_length", "max_length", "vocab_size")),
        *((name, c_int32) for name in ("has_tokenizer", "padding_free", "tokens_exit")),
        *((name, c_int32) for name in ("threads", "pool")),
    ]


class KnobValue(ctypes.Structure):
    """`effbert_knob_value`."""

    _fields_: ClassVar = [
        ("name", c_char_p),
        ("values", POINTER(c_double)),
        ("count", c_size_t),
        ("integers", c_int32),
    ]


class Call(_Sized):
    """`effbert_call`."""

    _fields_: ClassVar = [
        ("size", c_size_t),
        ("knobs", POINTER(KnobValue)),
        ("knob_count", c_size_t),
        ("deadline_ms", c_double),
        ("cancel", handle),
        ("every_exit", c_int32),
        ("operating_point", c_char_p),
    ]


class Ids(_Sized):
    """`effbert_ids`."""

    _fields_: ClassVar = [
        ("size", c_size_t),
        ("rows", c_int64),
        ("length", c_int64),
        *((name, handle) for name in ("input_ids", "attention_mask", "token_type_ids", "word_map")),
    ]


class Text(ctypes.Structure):
    """`effbert_text`."""

    _fields_: ClassVar = [
        ("text", c_char_p),
        ("bytes", c_size_t),
        ("second", c_char_p),
        ("second_bytes", c_size_t),
    ]


class TokenList(_Sized):
    """`effbert_token_list`."""

    _fields_: ClassVar = [
        ("size", c_size_t),
        ("capacity", c_size_t),
        *((name, POINTER(c_int64)) for name in ("ids", "types", "starts", "ends")),
        ("count", c_size_t),
        ("truncated", c_int32),
    ]


_FUNCTIONS = {
    "options_init": [POINTER(Options), c_size_t],
    "open": [c_char_p, POINTER(Options), POINTER(handle)],
    "close": [handle],
    "info": [handle, POINTER(SessionInfo)],
    "label": [handle, c_int64, POINTER(c_char_p)],
    "call_init": [POINTER(Call), c_size_t],
    "run_ids": [handle, POINTER(Ids), POINTER(Call), POINTER(handle)],
    "run_texts": [handle, POINTER(Text), c_size_t, POINTER(Call), POINTER(handle)],
    "tokens": [handle, POINTER(Text), POINTER(TokenList)],
    "result_rows": [handle, POINTER(c_int64)],
    "result_output": [handle, c_char_p, POINTER(handle), POINTER(handle), POINTER(c_size_t)],
    "result_exits": [handle, POINTER(handle)],
    "result_layers": [handle, POINTER(handle), POINTER(c_size_t)],
    "result_signals": [handle, POINTER(handle)],
    "result_flags": [handle, POINTER(handle)],
    "result_label": [handle, c_int64, POINTER(c_char_p), POINTER(c_double)],
    "result_free": [handle],
    "cancel_new": [POINTER(handle)],
    "cancel_now": [handle],
    "cancel_free": [handle],
}


def declare(library: ctypes.CDLL) -> None:
    """Tell ctypes the types of all functions."""
    library.effbert_last_error.restype = c_char_p
    library.effbert_version.restype = c_char_p
    for name, arguments in _FUNCTIONS.items():
        getattr(library, f"effbert_{name}").argtypes = arguments

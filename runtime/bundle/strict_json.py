"""JSON as a manifest needs it: nothing ambiguous is read, what is written reads well."""

from __future__ import annotations

import json
import math
import struct
from typing import Any, NoReturn

MAX_DEPTH = 16
LINE_WIDTH = 100


def read_json(data: bytes) -> Any:
    """Read one JSON document in UTF-8 and drop every key that starts with `x-`.

    Raises:
        ValueError: The document is malformed, repeats a key, holds a number that is not finite or
            an integer longer than 20 digits, a lone surrogate, or nests deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    _check(value, 1)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {key[:64]!r} occurs twice in one object")
        seen.add(key)
    return {key: value for key, value in pairs if not key.startswith("x-")}


def _constant(text: str) -> NoReturn:
    raise ValueError(f'{text} is not JSON, write "inf", "-inf" or "nan" as strings')


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _int(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"an integer of {len(text)} digits is too large")
    return int(text)


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        value.encode("utf-8")  # a lone surrogate raises UnicodeEncodeError, a ValueError
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth + 1)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)


def write_json(value: Any) -> bytes:
    """Write plain Python values, deterministic and indented; short containers stay on one line.

    A float that is exactly a float32 is written with the digits a float32 needs; floats that are
    not finite become the strings "inf", "-inf" and "nan".
    """
    return (_lines(_plain(value), "") + "\n").encode("utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return _short(value) if math.isfinite(value) else str(value)
    return value


def _short(value: float) -> float:
    if abs(value) > 3.4e38 or struct.unpack("f", struct.pack("f", value))[0] != value:
        return value
    for digits in range(1, 9):
        candidate = float(f"{value:.{digits}g}")
        if struct.unpack("f", struct.pack("f", candidate))[0] == value:
            return candidate
    return float(f"{value:.9g}")


def _lines(value: Any, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= LINE_WIDTH or not isinstance(value, dict | list):
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        items = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {_lines(item, inner)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + _lines(item, inner) for item in value) + f"\n{indent}]"

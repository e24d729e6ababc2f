"""Protocol buffers as bytes: enough to take ONNX files apart and to write small graphs.

The onnx library would do it, but a device needs nothing else of it, and it would copy the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_SIZES = {FIXED64: 8, FIXED32: 4}
_LONGEST = 10  # bytes of a varint


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        number: As in the .proto file.
        value: An integer for a varint, else the bytes of the value.
        raw: All bytes of the field, its number and length included.
    """

    number: int
    value: int | memoryview
    raw: memoryview


def read_fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of a message in their order, without copying.

    Raises:
        ValueError: The bytes are no message.
    """
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        kind = key & 7
        if kind == VARINT:
            value, position = _varint(message, position)
            yield Field(key >> 3, value, message[start:position])
            continue
        if kind == BYTES:
            size, position = _varint(message, position)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        end = position + size
        if end > len(message):
            raise ValueError("a field that is longer than its message")
        yield Field(key >> 3, message[position:end], message[start:end])
        position = end


def encode_field(number: int, value: int | str | bytes) -> bytes:
    """Write a field: integers (from 0 on) as varints, text as UTF-8."""
    if isinstance(value, int):
        return _written_varint(number << 3 | VARINT) + _written_varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _written_varint(number << 3 | BYTES) + _written_varint(len(data)) + data


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a varint and the position after it."""
    value = 0
    for shift, byte in enumerate(message[position : position + _LONGEST]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, position + shift + 1
    raise ValueError("a number that does not end")


def _written_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)

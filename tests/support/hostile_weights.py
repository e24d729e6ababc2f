"""Weights files that lie: torch files whose pickles claim more than the file holds."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HUGE = 10**9
NAME = "classifier.weight"


class _Storage:
    def __init__(self, elements: int) -> None:
        self.elements = elements


class _Tensor:
    def __init__(self, elements: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments = (_Storage(elements), 0, size, stride, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, *more: object) -> None:
        super().__init__(file, protocol=2)
        self.more = more

    def persistent_id(self, obj: object) -> Any:
        if isinstance(obj, _Storage):
            return ("storage", torch.FloatStorage, "0", "cpu", obj.elements, *self.more)
        return None


def _pickled(tensor: _Tensor, *more: object) -> bytes:
    file = io.BytesIO()
    _Pickler(file, *more).dump({NAME: tensor})
    return file.getvalue()


def _zip(path: Path, tensor: _Tensor, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x/data.pkl", _pickled(tensor))
        archive.writestr("x/byteorder", "little")
        archive.writestr("x/data/0", bytes(4 << 20 if compression else 16))
        archive.writestr("x/version", "3\n")


def _legacy(path: Path, elements: int, stored: int) -> None:
    about = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, about)]
    parts += [_pickled(_Tensor(elements, (elements,), (1,)), None), pickle.dumps(["0"], 2)]
    path.write_bytes(b"".join(parts) + struct.pack("<q", stored) + bytes(16))


CLAIMS: dict[str, Callable[[Path], None]] = {
    "a storage of 4 GB in 16 bytes": lambda path: _zip(path, _Tensor(HUGE, (HUGE,), (1,))),
    "a tensor of 4 GB over 16 bytes": lambda path: _zip(path, _Tensor(4, (HUGE,), (1,))),
    "a tensor of 4 TB with strides of 0": lambda path: _zip(
        path, _Tensor(4, (10**6, 10**6), (0, 0))
    ),
    "a compressed archive": lambda path: _zip(
        path, _Tensor(1 << 20, (1 << 20,), (1,)), zipfile.ZIP_DEFLATED
    ),
    "an older file that claims 4 GB": lambda path: _legacy(path, HUGE, HUGE),
    "an older file whose storage claims 4 GB": lambda path: _legacy(path, 4, HUGE),
    "an older file with a negative storage": lambda path: _legacy(path, 4, -1),
}

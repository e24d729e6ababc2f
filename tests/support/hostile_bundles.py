"""Damage, names and links that every reader of bundles must refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

FILES = (
    "segment-00.onnx",
    "segment-01.onnx",
    "segment-02.onnx",
    "tokenizer.json",
    "weights.bin",
)


def flipped(data: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


SAME_SIZE: dict[str, Callable[[bytes], bytes]] = {
    "first bit": lambda data: flipped(data, 0, 0),
    "middle bit": lambda data: flipped(data, len(data) // 2, 3),
    "last bit": lambda data: flipped(data, -1, 7),
    "first page zeroed": lambda data: bytes(min(4096, len(data))) + data[4096:],
    "reversed": lambda data: data[::-1],
}
OTHER_SIZE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "seven bytes": lambda data: data[:7],
    "half": lambda data: data[: len(data) // 2],
    "last byte missing": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "ten bytes more": lambda data: data + b"0123456789",
}


DEVICES = ["CON", "con.onnx", "PRN", "Aux.txt", "NUL", "nul.tar.gz", "COM1", "com0.bin", "LPT9"]
HOSTILE = [
    *("", ".", "..", "...", "a..", "a..b", "a.", "..a", ".hidden", "-rf", "_private"),
    *("/etc/passwd", "//host/share", "/", "../x", "../../x", "a/../b", "a/../../b", "./a", "a/"),
    *("a/b", "sub/segment-00.onnx", "a//b", "~", "~root", "~/x", "$HOME", "${HOME}", "%TEMP%"),
    *("..\\x", "a\\b", "\\\\host\\share", "C:", "C:\\x", "C:x", "c:/x", "a:b", "a:$DATA"),
    *("a\0b", "\0", "a\n", "a\nb", "\r", "a\t", " a", "a ", "a b", "a\x7f", "a\x1b[31m"),
    *("a*", "a?", "a|b", "a<b", 'a"b', "a'b", "a;b", "a&b", "`id`", "$(id)", "file:///etc/passwd"),
    *("\u00e9", "\uff0e\uff0e\uff0fx", "a\u202eb", "\u2024\u2024/x", "a\u0000", "b" * 129),
    *DEVICES,
]


def lead(bundle: Path, name: str, target: str | Path) -> None:
    """Makes a file of a bundle a link."""
    (bundle / name).unlink()
    (bundle / name).symlink_to(target)


def outside(bundle: Path, name: str) -> Path:
    """A copy of a file beside the folder of its bundle."""
    away = bundle.parent / "away"
    away.mkdir()
    return Path(shutil.copy(bundle / name, away / name))


def absolutely(bundle: Path, name: str) -> None:
    lead(bundle, name, outside(bundle, name))


def upwards(bundle: Path, name: str) -> None:
    outside(bundle, name)
    lead(bundle, name, f"../away/{name}")


def upwards_within(bundle: Path, name: str) -> None:
    outside(bundle, name)
    (bundle / "inner").mkdir()
    lead(bundle, name, f"inner/../../away/{name}")


def through_a_folder(bundle: Path, name: str) -> None:
    (bundle / "inner").symlink_to(outside(bundle, name).parent)
    lead(bundle, name, f"inner/{name}")


def through_a_link_inside(bundle: Path, name: str) -> None:
    (bundle / "link").symlink_to(outside(bundle, name))
    lead(bundle, name, "link")


def out_and_back(bundle: Path, name: str) -> None:
    shutil.copy(bundle / name, bundle / "copy")
    (bundle.parent / "away").symlink_to(bundle / "copy")
    lead(bundle, name, "../away")


def to_a_neighbour_of_the_same_beginning(bundle: Path, name: str) -> None:
    neighbour = bundle.with_name(f"{bundle.name}-2")
    neighbour.mkdir()
    shutil.copy(bundle / name, neighbour / name)
    lead(bundle, name, f"../{neighbour.name}/{name}")


def to_the_system(bundle: Path, name: str) -> None:
    lead(bundle, name, "/etc/passwd")


OUT = [
    *(absolutely, upwards, upwards_within, through_a_folder, through_a_link_inside, out_and_back),
    *(to_a_neighbour_of_the_same_beginning, to_the_system),
]

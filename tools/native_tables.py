"""Write runtime/native/src/unicode_tables.inc: what the tokenizers library knows of each character.

Its Rust crates hold several versions of Unicode, so the library itself is asked, for every code
point. `tests/runtime/native/test_unicode_tables.py` compares the file with what it says now.

    python tools/native_tables.py > runtime/native/src/unicode_tables.inc
"""

from __future__ import annotations

import base64
import itertools
import struct
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

# Flags of a character; `unicode.hpp` has the same.
FLAGS = (
    "space", "bert_removed", "bert_space", "bert_mark", "chinese", "punctuation", "letter",
    "number", "combining", "lowered", "canonical", "compatible", "composite", "extends",
    "prepends", "control", "pictograph", "joins_pictures", "consonant", "joins_consonants",
    "linker",
)  # fmt: skip
HANGUL = range(0xAC00, 0xD7A4)
MARK = "\u0301"  # two bytes, extends whatever stands before it
CHUNK = 1 << 14
STOP = "\u16a0"  # a rune, which nothing becomes or changes
Map = dict[str, str]


def code_points() -> list[str]:
    return [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def normalized(
    normalizer: normalizers.Normalizer, characters: Sequence[str], before: str = "", after: str = ""
) -> Map:
    """Of each character, alone or between others, what becomes of it."""
    found = {}
    for part in _chunks([c for c in characters if c != STOP]):
        text = "".join(f"{before}{c}{after}{STOP}" for c in part)
        found.update(zip(part, normalizer.normalize_str(text).split(STOP)[:-1], strict=True))
    found[STOP] = normalizer.normalize_str(f"{before}{STOP}{after}")
    return {c: found[c] for c in characters}


def pieces(
    splitter: pre_tokenizers.PreTokenizer, before: str, after: str, characters: Sequence[str]
) -> dict[str, list[tuple[int, int]]]:
    """Of each character between others, the pieces that it and they are split into."""
    found: dict[str, list[tuple[int, int]]] = {c: [] for c in characters}
    width = len(before) + 1 + len(after)
    for part in _chunks(characters):
        text = "".join(f"{before}{c}{after}" for c in part)
        for _, (start, end) in splitter.pre_tokenize_str(text):
            unit = start // width
            found[part[unit]].append((start - unit * width, end - unit * width))
    return found


def _chunks(characters: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(characters), CHUNK):
        yield characters[start : start + CHUNK]


def lead_byte_charsmap() -> normalizers.Normalizer:
    """A Precompiled normalizer that maps every first byte of a character but VT to "X".

    It is applied to clusters of fewer than six bytes, of which it sees the start, else to single
    characters: so it shows where clusters end. The format is that of sentencepiece: a trie of
    darts-clone, then strings.
    """
    units = [0] * 1024
    units[0] = 256 << 10
    for byte in (*range(1, 11), *range(12, 128), *range(0xC2, 0xF5)):
        units[256 ^ byte] = byte | 1 << 8 | (256 ^ byte ^ 768) << 10
    trie = struct.pack(f"<{len(units)}I", *units)
    return normalizers.Precompiled(struct.pack("<I", len(trie)) + trie + b"X\0")


def clusters(before: str, after: str, characters: Sequence[str]) -> dict[str, int]:
    """Of each character between others, how many characters `lead_byte_charsmap` leaves."""
    asked = [c for c in characters if c not in "\0\v"]
    mapped: dict[str, int] = {}
    normalizer = lead_byte_charsmap()
    for part in _chunks(asked):
        text = "\v".join(f"{before}{c}{after}" for c in part)
        found = normalizer.normalize_str(text).split("\v")
        mapped.update(zip(part, map(len, found), strict=True))
    return mapped


def flags(characters: Sequence[str]) -> tuple[dict[str, set[str]], Map, Map, Map]:
    """All flags, and what lower case and both decompositions make of a character."""
    bert = normalizers.BertNormalizer
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False,
           "lowercase": False}  # fmt: skip
    clean = normalized(bert(**{**off, "clean_text": True}), characters)
    chinese = normalized(bert(**{**off, "handle_chinese_chars": True}), characters)
    stripped = normalized(bert(**{**off, "strip_accents": True}), characters)
    lower = normalized(normalizers.Lowercase(), characters)
    assert lower == normalized(bert(**{**off, "lowercase": True}), characters)
    canonical = normalized(normalizers.NFD(), characters)
    compatible = normalized(normalizers.NFKD(), characters)
    composed = normalized(normalizers.NFC(), characters)
    unmarked = normalized(normalizers.StripAccents(), characters)
    spaces = normalized(normalizers.Replace(Regex(r"\s"), ""), characters)
    words = pieces(pre_tokenizers.BertPreTokenizer(), " a", "a", characters)
    blanks = pieces(pre_tokenizers.WhitespaceSplit(), " a", "a", characters)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pieces(bytes_, "!a", "!", characters)
    numbers = pieces(bytes_, "!1", "!", characters)
    ka, virama = "\u0915", "\u094d"
    alone = clusters("a", "", characters)
    first = clusters("", f"a{MARK}", characters)
    marked = clusters("", MARK, characters)
    picture = clusters("", f"\u200d\u2600{MARK}", characters)
    in_picture = clusters("\u2600", f"\u200d\u2600{MARK}", characters)
    conjunct = clusters("", f"{virama}{ka}{MARK}", characters)
    in_conjunct = clusters(ka, f"{virama}{ka}{MARK}", characters)
    linking = clusters(ka, f"{ka}{MARK}", characters)
    found = {}
    for c in characters:
        space = len(blanks[c]) == 2
        assert space == (spaces[c] == "")
        extends = alone.get(c) == 1
        letter = (1, 3) in letters[c]
        hangul = ord(c) in HANGUL
        has = {
            "space": space,
            "bert_removed": clean[c] == "",
            "bert_space": clean[c] == " ",
            "bert_mark": canonical[c] == c and stripped[c] == "",
            "chinese": chinese[c] != c,
            "punctuation": len(words[c]) == 3,
            "letter": letter,
            "number": (1, 3) in numbers[c],
            "combining": unmarked[c] == "",
            "lowered": lower[c] != c,
            "canonical": canonical[c] != c and not hangul,
            "compatible": compatible[c] != canonical[c] and not hangul,
            "composite": canonical[c] != c and composed[c] == c and not hangul,
            "extends": extends,
            "prepends": first.get(c, 2) != 2,
            "control": c in "\0\v" or (marked[c] == 2 and len(c.encode()) < 4),
            "pictograph": not extends and picture.get(c) == 4,
            "joins_pictures": extends and in_picture[c] == 5,
            "consonant": not extends and conjunct.get(c) == 4,
            "joins_consonants": extends and in_conjunct[c] == 5,
            "linker": extends and linking[c] == 4,
        }
        assert len(words[c]) in (1, 2, 3)
        assert (len(words[c]) == 2) == space or c in "a"
        found[c] = {name for name, holds in has.items() if holds}
    changed = [
        {c: by[c] for c in characters if flag in found[c]}
        for by, flag in ((lower, "lowered"), (canonical, "canonical"), (compatible, "compatible"))
    ]
    return found, changed[0], changed[1], changed[2]


def combining_classes(characters: Sequence[str]) -> dict[str, int]:
    """Canonical combining classes above 0, found by how NFD sorts characters among known ones."""
    nfd = normalizers.NFD()
    lowest, highest = "\u0334", "\u0345"  # of classes 1 and 240
    above = normalized(nfd, characters, highest)
    below = normalized(nfd, characters, "", lowest)
    moving = [
        c for c in characters if above[c] == f"{c}{highest}" or below[c] == f"{lowest}{c}"
    ]  # all but those of class 0; Python may know more marks than the library
    known = {unicodedata.combining(c): c for c in reversed(moving) if unicodedata.combining(c)}
    return {
        c: next(
            value
            for value, mark in known.items()
            if nfd.normalize_str(c + mark) == c + mark and nfd.normalize_str(mark + c) == mark + c
        )
        for c in moving
    }


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def signed(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def written_runs(values: Iterable[tuple[int, int]]) -> bytes:
    """Where a value changes: distances, and the values."""
    runs: list[tuple[int, int]] = []
    for point, value in values:
        if not runs or runs[-1][1] != value:
            runs.append((point, value))
    written = [varint(len(runs))]
    for (before, _), (point, value) in itertools.pairwise([(0, 0), *runs]):
        written += [varint(point - before), varint(value)]
    return b"".join(written)


def written_map(changed: Map) -> bytes:
    """Runs of characters at one distance, which become one character at one distance, and others.

    A run is: distance from the last, count, step, length 1, where it goes. Of longer ones every
    character is written.
    """
    entries = [(ord(c), [ord(to) for to in text]) for c, text in changed.items()]
    runs: list[tuple[int, int, int, list[int]]] = []  # first, count, step, becomes
    for point, text in entries:
        if runs and len(text) == 1 and len(runs[-1][3]) == 1:
            first, count, step, becomes = runs[-1]
            gap = point - first - step * (count - 1)
            fits = text[0] - point == becomes[0] - first and gap < 4
            if fits and (count == 1 or gap == step):
                runs[-1] = (first, count + 1, gap, becomes)
                continue
        runs.append((point, 1, 0, text))
    written, last = [varint(len(runs))], 0
    for first, count, step, becomes in runs:
        written += [varint(first - last), varint(count), varint(step), varint(len(becomes))]
        written += [signed(point - first) for point in becomes]
        last = first
    return b"".join(written)


def table_bytes() -> bytes:
    """Everything, one after the other: masks, runs of them, combining classes, three maps."""
    characters = code_points()
    found, lower, canonical, compatible = flags(characters)
    classes = combining_classes(characters)
    masks = {c: sum(1 << FLAGS.index(name) for name in names) for c, names in found.items()}
    distinct = sorted(set(masks.values()))
    number: Callable[[str], int] = {mask: k for k, mask in enumerate(distinct)}.__getitem__
    runs = ((ord(c), number(masks[c])) for c in characters)
    parts = [
        varint(len(distinct)),
        *(varint(mask) for mask in distinct),
        written_runs(runs),
        written_runs((ord(c), classes.get(c, 0)) for c in characters),
        *(written_map(changed) for changed in (lower, canonical, compatible)),
    ]
    return b"".join(parts)


def main() -> None:
    text = base64.b64encode(table_bytes()).decode()
    print("// Generated by tools/native_tables.py; do not edit.")
    print(f"// What tokenizers {tokenizers.__version__} says of each character.")
    for start in range(0, len(text), 100):
        print(f'"{text[start : start + 100]}",')


if __name__ == "__main__":
    main()

"""The one reader of files that people write: one text a line, or a table."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from effbert.runtime import InputError, read_labelled, read_texts
from effbert.runtime.texts import files
from effbert.runtime.texts.files import read_lines


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content, texts",
    [
        ("one\ntwo\n", ["one", "two"]),
        ("one\r\ntwo", ["one", "two"]),
        ("\ufeffone\n", ["one"]),
        ("a\tb\n\nc\n", [("a", "b"), "", "c"]),
        ("one\u2028still one\x0b\n", ["one\u2028still one\x0b"]),
        ("", []),
    ],
)
def test_every_line_is_a_text_and_a_tab_makes_a_pair(
    tmp_path: Path, content: str, texts: list[object]
) -> None:
    assert read_texts(written(tmp_path / "texts.txt", content)) == texts


def test_a_table_is_told_by_its_suffix(tmp_path: Path) -> None:
    content = "label,text,pair\n1,first,\n0,second,other\n"
    assert read_texts(written(tmp_path / "texts.csv", content)) == ["first", ("second", "other")]
    assert read_texts(written(tmp_path / "texts.txt", content))[0] == "label,text,pair"


def test_lines_beyond_the_most_are_not_read(tmp_path: Path) -> None:
    path = written(tmp_path / "texts.txt", b"one\ntwo\n\xff\n")
    assert read_texts(path, most=2) == ["one", "two"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"fine\n\xff\xfe\n", "texts.txt, line 2: this is not UTF-8 text"),
        (b"a\tb\tc\n", "Text 1: 2 tabs, expected one at most"),
        (b"one\ntwo\nthree\n", "texts.txt is larger than 1 GiB; split it"),
    ],
)
def test_what_is_no_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    with pytest.raises(InputError, match=message):
        read_texts(written(tmp_path / "texts.txt", content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("texts.txt", "texts.csv"):
        with pytest.raises(InputError, match=f"{name} cannot be read: No such file"):
            read_texts(tmp_path / name)


def test_a_stream_is_read_like_a_file() -> None:
    assert read_lines(io.BytesIO(b"one\ttwo\nthree"), "standard input") == [("one", "two"), "three"]


def test_labels_are_names_or_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "data.csv", "text,label\na,bad\nb,1\n")
    assert read_labelled(path, ["bad", "good"]).labels == [0, 1]

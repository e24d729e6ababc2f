"""Texts of the user's become rows: no blank ones, and no more than are of use."""

from __future__ import annotations

from pathlib import Path

import pytest

from effbert.exporter.rows import rows as rows_module
from effbert.exporter.rows.rows import file_texts, shipped_texts
from effbert.runtime import InputError


def test_the_shipped_sentences_are_single_texts() -> None:
    texts = shipped_texts()
    assert len(texts) == 64
    assert all(isinstance(text, str) and text.strip() for text in texts)


@pytest.mark.parametrize(
    "name, content",
    [("texts.txt", "one\n  \n\n \t \ntwo\n"), ("texts.csv", 'text\none\n"  "\ntwo\n')],
)
def test_blank_texts_are_left_out(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert file_texts(tmp_path / name) == ["one", "two"]


def test_a_file_of_blanks_holds_no_text(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n  \n\n")
    with pytest.raises(InputError, match=r"texts\.txt holds no text; write one text a line"):
        file_texts(path)


def test_a_long_file_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MAX_LINES", 3)
    path = tmp_path / "texts.txt"
    path.write_bytes(b"one\n\ntwo\n\xff")
    assert file_texts(path) == ["one", "two"]

"""Rows come out of every kind of file as they went in, one after the other."""

from __future__ import annotations

import csv
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from effbert.runtime.errors import InputError
from effbert.runtime.texts import rows_of_files
from effbert.runtime.texts.rows_of_files import BadRow, Row, read_rows

ROWS: list[dict[str, Any]] = [
    {"text": "a film", "label": 1},
    {"text": 'an "odd",\nlong ' + "x" * 200_000, "label": 0},
]


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [*rows[0]], delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[..., None]] = {
    "rows.csv": write_csv,
    "rows.jsonl": write_jsonl,
    "rows.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_rows_of_any_length_are_read(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    found = [row.values for row in read_rows(tmp_path / name) if isinstance(row, Row)]
    as_text = [{"text": row["text"], "label": str(row["label"])} for row in found]
    assert as_text == [{"text": row["text"], "label": str(row["label"])} for row in ROWS]


def test_a_folder_of_the_datasets_library_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "d.arrow"}]}))
    table = pyarrow.Table.from_pylist(ROWS)
    with (
        pyarrow.OSFile(str(tmp_path / "d.arrow"), "wb") as sink,
        pyarrow.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    assert [row.values for row in read_rows(tmp_path) if isinstance(row, Row)] == ROWS


def test_a_folder_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../d.arrow"}]}))
    with pytest.raises(InputError, match="outside the folder"):
        list(read_rows(tmp_path))


def test_tabs_separate_fields_and_quotes_are_characters(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text('text\tlabel\n"a film\t1\n')
    assert [*read_rows(tmp_path / "rows.tsv")] == [Row(2, {"text": '"a film', "label": "1"})]


@pytest.mark.parametrize(
    "name, data, line, reason",
    [
        ("a.csv", b"text,label\na,1\nb,1,2\n", 3, "more than 2 fields"),
        ("a.csv", b"text,label\n\xff,1\n", 2, "not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', 2, "no JSON object"),
        ("a.jsonl", b'{"text": "\xff"}\n', 1, "no JSON object"),
    ],
)
def test_a_bad_line_is_named(
    tmp_path: Path, name: str, data: bytes, line: int, reason: str
) -> None:
    (tmp_path / name).write_bytes(data)
    [bad] = [row for row in read_rows(tmp_path / name) if isinstance(row, BadRow)]
    assert bad.line == line
    assert reason in bad.reason


@pytest.mark.parametrize("name", ["rows.xml", "missing.csv", "rows.parquet", "empty"])
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
        (tmp_path / name).write_bytes(b"no parquet")
    if name == "empty":
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=r"\.$"):
        list(read_rows(tmp_path / name))


def test_a_million_lines_are_not_in_memory_at_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a film"}\n' * 100_000)
    tracemalloc.start()
    count = sum(1 for _ in read_rows(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 1_000_000


def test_without_pyarrow_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(rows_of_files.MissingDependencyError, match=r"effbert\[tune\]"):
        list(read_rows(tmp_path / "a.parquet"))

"""Rows of the files that people keep labelled texts in, one after the other.

CSV, TSV, JSON lines, Parquet, and folders that `datasets.Dataset.save_to_disk` wrote. Nothing but
one piece of a file is in memory at a time, and a field may be of any length.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from effbert.runtime.errors import InputError, MissingDependencyError

INSTALL = 'pip install "effbert[tune]"'


class Row(NamedTuple):
    """Values of an example, and its line in the file (or its number, from 1)."""

    line: int
    values: dict[str, Any]


class BadRow(NamedTuple):
    """A line that cannot be read, and why."""

    line: int
    reason: str


def read_rows(path: Path) -> Iterator[Row | BadRow]:
    """Read a table row by row.

    Args:
        path: `.csv`, `.tsv`, `.jsonl` (or `.ndjson`, `.json`) or `.parquet`, or a folder that
            `save_to_disk` of the datasets library wrote.

    Raises:
        InputError: It cannot be read, or is of another kind.
        MissingDependencyError: pyarrow is not installed.
    """
    if path.is_dir():
        return _arrow_folder(path)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(
            f"{path} is of no kind that can be read; give {', '.join(_READERS)}, or a folder that "
            "save_to_disk of the datasets library wrote."
        )
    return read(path)


def _commas(path: Path) -> Iterator[Row | BadRow]:
    return _separated(path, ",")


def _tabs(path: Path) -> Iterator[Row | BadRow]:
    return _separated(path, "\t")


def _separated(path: Path, delimiter: str) -> Iterator[Row | BadRow]:
    try:
        with (
            _fields_of_any_length(),
            path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file,
        ):
            quoted = delimiter == ","  # files with tabs do without
            table = csv.DictReader(
                file,
                delimiter=delimiter,
                quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            )
            for row in table:
                line = table.line_num
                if None in row:
                    yield BadRow(line, f"it has more than {len(table.fieldnames or ())} fields")
                elif not all(_is_unicode(value) for value in row.values()):
                    yield BadRow(line, "this is not UTF-8 text")
                else:
                    yield Row(line, dict(row))
    except OSError as error:
        raise _unreadable(path, error) from error
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a table: {error}.") from error


def _is_unicode(value: str | None) -> bool:
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _json_lines(path: Path) -> Iterator[Row | BadRow]:
    try:
        with path.open("rb") as file:
            for line, data in enumerate(file, 1):
                if not data.strip():
                    continue
                try:
                    yield Row(line, msgspec.json.decode(data, type=dict[str, Any]))
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    yield BadRow(line, f"this is no JSON object ({str(error)[:100]})")
    except OSError as error:
        raise _unreadable(path, error) from error


def _parquet(path: Path) -> Iterator[Row | BadRow]:
    parquet = _pyarrow("parquet")
    try:
        with parquet.ParquetFile(path) as file:
            yield from _numbered(file.iter_batches(1024))
    except OSError as error:
        raise _unreadable(path, error) from error
    except _pyarrow("lib").ArrowException as error:
        raise InputError(f"{path} is not a Parquet file: {str(error)[:200]}.") from error


def _arrow_folder(path: Path) -> Iterator[Row | BadRow]:
    try:
        state = json.loads((path / "state.json").read_bytes())
        names = [str(each["filename"]) for each in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no folder that save_to_disk of the datasets library wrote; give one split, "
            "such as DIR/validation."
        ) from error
    if any(Path(name).name != name for name in names):
        raise InputError(f"{path}: state.json names files outside the folder.")
    ipc, lib = _pyarrow("ipc"), _pyarrow("lib")
    try:
        yield from _numbered(_batches(ipc, [path / name for name in names]))
    except OSError as error:
        raise _unreadable(path, error) from error
    except lib.ArrowException as error:
        raise InputError(f"{path} holds files that are damaged: {str(error)[:200]}.") from error


def _batches(ipc: Any, files: Sequence[Path]) -> Iterator[Any]:
    for file in files:
        with file.open("rb") as opened:
            yield from ipc.open_stream(opened)


def _numbered(batches: Iterator[Any]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for values in batch.to_pylist():
            number += 1
            yield Row(number, values)


def _pyarrow(part: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"pyarrow.{part}")
    except ImportError as error:
        raise MissingDependencyError(
            f"Parquet files and folders of the datasets library need pyarrow; {INSTALL}."
        ) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read: {error.strerror or error}.")


_READERS: dict[str, Callable[[Path], Iterator[Row | BadRow]]] = {
    ".csv": _commas,
    ".tsv": _tabs,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
    ".parquet": _parquet,
}


def choose_column(
    path: Path, columns: Sequence[str], asked: str | None, usual: Sequence[str], option: str
) -> str | None:
    """Find the column that holds something.

    Args:
        path: For messages.
        columns: Of the file.
        asked: What the user says; None leaves it to the usual names.
        usual: Names that people give it, the most likely first.
        option: How the user can say it.

    Returns:
        The name, or None where no column has a usual name.

    Raises:
        InputError: There is no column of the name asked for.
    """
    if asked is not None:
        if asked not in columns:
            raise InputError(
                f"{path} has no column {asked!r} ({option}); it has: {', '.join(columns)}."
            )
        return asked
    return next((name for name in usual if name in columns), None)

"""Read the texts that people write into files: one a line, or in a CSV file with labels."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from effbert.runtime.errors import InputError
from effbert.runtime.texts.tokenization import Text

MAX_BYTES = 1 << 30
MAX_ROWS = 100_000
COLUMNS = ("text", "label")
Label = TypeVar("Label")


@dataclass(frozen=True)
class Labelled(Generic[Label]):
    """Texts, and for each the index of its label among the model's, or one for each word."""

    texts: list[Text]
    labels: list[Label]


def read_texts(path: Path, most: int | None = None) -> list[Text]:
    """Read a file of texts.

    Args:
        path: A CSV file (`.csv`) with the column `text`, and `pair` for second texts; else UTF-8
            with one text a line, where a tab separates the two texts of a pair.
        most: Of a file without columns, read no more lines than these; None reads all.

    Raises:
        InputError: The file cannot be read, or lacks the column.
    """
    if path.suffix.lower() == ".csv":
        return _read_table(path, lambda text, label: None, columns=("text",)).texts
    try:
        with path.open("rb") as file:
            return read_lines(file, str(path), most)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_lines(file: BinaryIO, source: str, most: int | None = None) -> list[Text]:
    """Read UTF-8 with one text a line; blank lines are blank texts.

    Args:
        file: Where it comes from.
        source: How messages call it.
        most: Read no more lines than these; None reads all.

    Raises:
        InputError: It is too large, is not UTF-8, or a line has more than one tab.
    """
    texts: list[Text] = []
    room = MAX_BYTES
    while most is None or len(texts) < most:
        line = file.readline(room + 1)
        if not line:
            break
        room -= len(line)
        if room < 0:
            raise InputError(f"{source} is larger than 1 GiB; split it.")
        number = len(texts) + 1
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        try:
            text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{source}, line {number}: this is not UTF-8 text.") from error
        texts.append(parse_text(number, text))
    return texts


def parse_text(number: int, line: str) -> Text:
    """Split one line at its tab, if it has one.

    Raises:
        InputError: It has more.
    """
    parts = line.split("\t")
    if len(parts) > 2:
        raise InputError(f"Text {number}: {len(parts) - 1} tabs, expected one at most.")
    return line if len(parts) == 1 else (parts[0], parts[1])


def read_labelled(path: Path, labels: Sequence[str]) -> Labelled[int]:
    """Read a CSV file with the columns `text` and `label`, and `pair` for second texts.

    A label is its name, or its number from 0; of labels with one name only the number is taken.

    Raises:
        InputError: The file cannot be read, lacks a column, or has a label the model has not.
    """
    index_of = LabelIndex(labels)
    return _read_table(path, lambda text, label: index_of(label))


class LabelIndex:
    """The index of a label, from its name or number."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._indices = {str(index): index for index in range(len(labels))}
        self._several = {name for name in labels if labels.count(name) > 1}
        self._indices |= {
            name: index for index, name in enumerate(labels) if name not in self._several
        }

    def __call__(self, label: str) -> int:
        """Find it.

        Raises:
            ValueError: No label is named so, or several.
        """
        if label in self._several:
            raise ValueError(f"several labels are named {label!r:.40}; write the number of one")
        if label not in self._indices:
            known = f"{', '.join(self._labels[:8])}{' ...' if len(self._labels) > 8 else ''}"
            raise ValueError(f"label {label!r:.40} is none of the model's: {known}")
        return self._indices[label]


def _read_table(
    path: Path, parse: Callable[[str, str], Label], columns: tuple[str, ...] = COLUMNS
) -> Labelled[Label]:
    found: Labelled[Label] = Labelled([], [])
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if not set(columns).issubset(table.fieldnames or ()):
                needed = "column" if len(columns) == 1 else "columns"
                names = " and ".join(columns)
                raise InputError(f"{path} needs the {needed} {names} in its first line.")
            for row in table:
                if len(found.texts) == MAX_ROWS:
                    raise InputError(f"{path} has more than {MAX_ROWS} rows; send fewer.")
                text = row["text"] or ""
                try:
                    found.labels.append(parse(text, row.get("label") or ""))
                except ValueError as error:
                    raise InputError(f"{path}, line {table.line_num}: {error}.") from error
                found.texts.append((text, row["pair"]) if row.get("pair") else text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8: {error}.") from error
    if not found.texts:
        raise InputError(f"{path} holds no rows below its first line.")
    return found

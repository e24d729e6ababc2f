"""Texts, with labels or without, from a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from effbert.runtime.errors import InputError
from effbert.runtime.tokenization import Text

MAX_ROWS = 100_000
COLUMNS = ("text", "label")
Label = TypeVar("Label")


@dataclass(frozen=True)
class Labelled(Generic[Label]):
    """Texts, and for each the place of its label among the model's, or one for each word."""

    texts: list[Text]
    labels: list[Label]


def read_labelled(path: Path, labels: Sequence[str]) -> Labelled[int]:
    """Read a CSV file with the columns `text` and `label`, and `pair` for second texts.

    A label is its name, or its number from 0.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a label the model has not.
    """
    place_of = _Places(labels)
    return _read(path, lambda text, label: place_of(label))


def read_labelled_words(path: Path, labels: Sequence[str]) -> Labelled[list[int]]:
    """As `read_labelled`, with blanks between the labels, one for each word between blanks."""
    place_of = _Places(labels)

    def places(text: str, label: str) -> list[int]:
        found = [place_of(each) for each in label.split()]
        if len(found) != len(text.split()):
            raise ValueError(f"{len(found)} labels for {len(text.split())} words")
        return found

    return _read(path, places)


def read_texts(path: Path) -> list[Text]:
    """Read the column `text`, and `pair` for second texts, of a CSV file that may have others."""
    return _read(path, lambda text, label: None, columns=("text",)).texts


class _Places:
    """The place of a label, from its name or number."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._places = {str(place): place for place in range(len(labels))}
        self._places |= {name: place for place, name in enumerate(labels)}

    def __call__(self, label: str) -> int:
        if label not in self._places:
            known = f"{', '.join(self._labels[:8])}{' ...' if len(self._labels) > 8 else ''}"
            raise ValueError(f"label {label!r:.40} is none of the model's: {known}")
        return self._places[label]


def _read(
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

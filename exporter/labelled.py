"""Texts with labels, from a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effbert.exporter.reason import reason
from effbert.runtime.errors import InputError
from effbert.runtime.tokenization import Text

MAX_ROWS = 100_000
COLUMNS = {"text", "label"}


@dataclass(frozen=True)
class Labelled:
    """Texts, and for each the place of its label among the model's."""

    texts: list[Text]
    labels: list[int]


def read_labelled(path: Path, labels: Sequence[str]) -> Labelled:
    """Read a CSV file with the columns `text` and `label`, and `pair` for second texts.

    A label is its name, or its number from 0.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a label the model has not.
    """
    places = {str(place): place for place in range(len(labels))}
    places |= {name: place for place, name in enumerate(labels)}
    found = Labelled([], [])
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if not COLUMNS.issubset(table.fieldnames or ()):
                raise InputError(f"{path} needs the columns text and label in its first line.")
            for row in table:
                if len(found.texts) == MAX_ROWS:
                    raise InputError(f"{path} has more than {MAX_ROWS} rows; send fewer.")
                if row["label"] not in places:
                    raise InputError(
                        f"{path}, line {table.line_num}: label {row['label']!r:.40} is none of the "
                        f"model's: {', '.join(labels[:8])}{' ...' if len(labels) > 8 else ''}."
                    )
                text = row["text"] or ""
                found.texts.append((text, row["pair"]) if row.get("pair") else text)
                found.labels.append(places[row["label"]])
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8: {reason(error)}.") from error
    if not found.texts:
        raise InputError(f"{path} holds no rows; write one text with its label a line.")
    return found

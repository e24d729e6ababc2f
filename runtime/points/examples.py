"""Examples to tune on: texts, and what the right answer to each is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.errors import InputError
from effbert.runtime.texts.files import LabelIndex
from effbert.runtime.texts.rows_of_files import BadRow, Row, choose_column, read_rows
from effbert.runtime.texts.tokenization import Text

FIRST = ("text", "sentence", "sentence1", "question1", "premise", "question", "review", "tokens")
SECOND = ("pair", "sentence2", "question2", "hypothesis", "context")
TRUTH = ("label", "labels", "score", "tags", "ner_tags", "pos_tags", "answers", "answer")


class _BadValueError(ValueError):
    """What a column holds is not what the task needs."""


class Example(NamedTuple):
    """A text and its right answer.

    Attributes:
        line: Where it stands in the file.
        text: A text, or a pair of them.
        truth: The id of its label; ids (several labels); a number (regression); one id a word; or
            the texts that answer a question, none if it has no answer. None if nobody says.
    """

    line: int
    text: Text
    truth: Any


@dataclass(frozen=True)
class Columns:
    """Names of columns; None leaves one to the names that people usually give it."""

    text: str | None = None
    pair: str | None = None
    label: str | None = None


class Examples:
    """The examples of a file, read anew by every iteration.

    Attributes:
        labelled: Whether the file says what is right.
        skipped: Lines that the last iteration left out.
    """

    def __init__(
        self, path: Path, manifest: Manifest, columns: Columns | None = None, skip: bool = False
    ) -> None:
        """Look at the first row.

        Args:
            path: A file that `read_rows` reads.
            manifest: Of the bundle; its task decides what a label is.
            columns: Where text and label stand.
            skip: Leave out lines that cannot be read, instead of refusing the file.

        Raises:
            InputError: The file is empty or cannot be read, or no column holds the texts.
        """
        self._path, self._skip = path, skip
        self.skipped: list[int] = []
        first = next((row for row in read_rows(path) if isinstance(row, Row)), None)
        if first is None:
            raise InputError(f"{path} holds no rows.")
        names, asked = [*first.values], columns or Columns()
        self._text = choose_column(path, names, asked.text, FIRST, "--text")
        self._pair = choose_column(path, names, asked.pair, SECOND, "--pair")
        self._label = choose_column(path, names, asked.label, TRUTH, "--label")
        if self._text is None:
            raise InputError(
                f"No column of {path} is named as texts usually are (its columns: "
                f"{', '.join(names)}); name it with --text COLUMN."
            )
        if manifest.task == "token-classification":
            self._pair = None
        self.labelled = self._label is not None
        self._truth = _truth_reader(manifest)

    def __iter__(self) -> Iterator[Example]:
        """Read the file.

        Raises:
            InputError: A line cannot be read, and is not to be skipped.
        """
        self.skipped = []
        for row in read_rows(self._path):
            example = row if isinstance(row, BadRow) else self._example(row)
            if isinstance(example, Example):
                yield example
            elif self._skip:
                self.skipped.append(example.line)
            else:
                raise InputError(
                    f"{self._path}, line {example.line}: {example.reason}; mend it, or leave such "
                    "lines out with --skip-bad."
                )

    def _example(self, row: Row) -> Example | BadRow:
        assert self._text is not None
        try:
            first = _text(row.values, self._text)
            pair = None if self._pair is None else _text(row.values, self._pair)
            text: Text = first if pair is None else (first, pair)
            truth = None
            if self._label is not None:
                truth = self._truth(row.values.get(self._label), text)
        except ValueError as error:
            return BadRow(row.line, str(error))
        return Example(row.line, text, truth)


def in_chunks(examples: Iterator[Example], size: int) -> Iterator[list[Example]]:
    """Group examples, `size` at a time."""
    for first in examples:
        yield [first, *islice(examples, size - 1)]


def _text(values: Mapping[str, Any], column: str) -> str:
    value = values.get(column)
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return " ".join(value)
    if not isinstance(value, str):
        raise _BadValueError(f"column {column!r} holds {type(value).__name__}, expected text")
    return value


def _truth_reader(manifest: Manifest) -> Callable[[Any, Text], Any]:
    if manifest.task == "question-answering":
        return _answers
    if manifest.problem == "regression":
        return _number
    classes = next(item for item in manifest.segments[-1].outputs if item.name == "logits").axes[-1]
    names = manifest.labels or [f"LABEL_{index}" for index in range(int(classes))]
    index = LabelIndex(names)
    if manifest.task == "token-classification":
        return lambda value, text: _word_ids(value, text, index)
    if manifest.problem == "multi-label":
        return lambda value, text: sorted({index(str(each)) for each in _several(value)})
    return lambda value, text: index(_one(value))


def _one(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise _BadValueError(f"the label is {value!r:.40}, expected a name or an id")
    return str(value)


def _several(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        value = value.strip()
        if value.startswith("["):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                raise _BadValueError(f"the labels {value!r:.40} are no JSON list") from None
        else:
            value = [each.strip() for each in value.split(",") if each.strip()]
    if not isinstance(value, list):
        raise _BadValueError(f"the labels are {value!r:.40}, expected a list of them")
    return value


def _number(value: Any, _: Text) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _BadValueError(f"the label is {value!r:.40}, expected a number") from None
    if number - number != 0:
        raise _BadValueError(f"the label is {value!r:.40}, expected a finite number")
    return number


def _word_ids(value: Any, text: Text, index: LabelIndex) -> list[int]:
    labels = value.split() if isinstance(value, str) else value
    if not isinstance(labels, list):
        raise _BadValueError(f"the labels are {value!r:.40}, expected one for each word")
    assert isinstance(text, str)
    if len(labels) != len(text.split()):
        raise _BadValueError(f"it has {len(labels)} labels for {len(text.split())} words")
    return [index(str(label)) for label in labels]


def _answers(value: Any, _: Text) -> list[str]:
    if isinstance(value, dict):  # as SQuAD: {"text": [...], "answer_start": [...]}
        value = value.get("text", [])
    if isinstance(value, str):
        value = [value] if value else []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _BadValueError(f"the answers are {value!r:.40}, expected texts")
    return value

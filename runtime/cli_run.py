"""`effbert run`: answers texts on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from effbert.runtime.cli_engine import engine_options
from effbert.runtime.cli_output import printable
from effbert.runtime.errors import InputError

if TYPE_CHECKING:
    from effbert.runtime.predictions import Prediction
    from effbert.runtime.session import Session
    from effbert.runtime.tokenization import Text

MAX_FILE_BYTES = 1 << 30


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--file", type=click.Path(path_type=Path), help="Read the texts from this file.")
@click.option(
    "--knob",
    "knobs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a knob; one value, or with commas one an exit or, for lengths, a layer.",
)
@click.option("--operating-point", metavar="NAME", help="Knob values to start from.")
@engine_options
@click.option("--deadline-ms", type=float, help="Take the best answer after this time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def run(
    bundle: Path,
    texts: tuple[str, ...],
    file: Path | None,
    knobs: tuple[str, ...],
    operating_point: str | None,
    engine: str,
    threads: int | None,
    deadline_ms: float | None,
    as_json: bool,
) -> None:
    """Answer texts with BUNDLE.

    The texts are the arguments, the lines of a file, or else the lines of standard input; a tab
    separates the two texts of a pair.
    """
    if texts and file:
        raise InputError("Texts come from the arguments or from --file, not from both.")
    values = dict(_knob(setting) for setting in knobs)
    lines = list(texts) if texts else _lines(file)

    from effbert.runtime.session import Session

    with Session(bundle, engine, threads, operating_point) as session:
        parsed = [_text(number, line) for number, line in enumerate(lines, 1)]
        answers = session(parsed, knobs=values, deadline_ms=deadline_ms)
        show = _as_json if as_json else _as_columns
        # All answers are there before the first line is printed.
        output = [show(session, text, answer) for text, answer in zip(parsed, answers, strict=True)]
    click.echo("".join(line + "\n" for line in output), nl=False)


def _knob(setting: str) -> tuple[str, float | list[float]]:
    name, equals, value = setting.partition("=")
    try:
        numbers = [_number(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if not (name and equals and numbers):
        raise InputError(f"--knob {setting}: expected NAME=NUMBER or NAME=NUMBER,NUMBER,...")
    return name, numbers[0] if len(numbers) == 1 else numbers


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _lines(file: Path | None) -> list[str]:
    source = "standard input" if file is None else str(file)
    try:
        if file is None:
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with file.open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        content = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{source}, line {line}: this is not UTF-8 text.") from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{source} is larger than 1 GiB; split it.")
    lines = content.split("\n")  # not splitlines: a text may hold other line separators
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _text(number: int, line: str) -> Text:
    parts = line.split("\t")
    if len(parts) > 2:
        raise InputError(f"Text {number}: {len(parts) - 1} tabs, expected one at most.")
    return line if len(parts) == 1 else (parts[0], parts[1])


def _as_json(session: Session, text: Text, answer: Prediction) -> str:
    from msgspec import json, to_builtins

    return json.encode({"text": text, **to_builtins(answer)}).decode()


def _as_columns(session: Session, text: Text, answer: Prediction) -> str:
    """Answer, score, layer and text, separated by tabs; the entities of a text in one column."""
    from effbert.runtime.predictions import Answer, Classification, TokenLabels

    if isinstance(answer, Classification):
        columns = [answer.label, f"{answer.score:.4f}"]
        if session.bundle.manifest.problem == "multi-label":
            columns = [",".join(answer.labels) or "-", f"{answer.score:.4f}"]
    elif isinstance(answer, Answer):
        columns = [answer.answer, f"{answer.score:.4f}"]
    else:
        assert isinstance(answer, TokenLabels)
        columns = [" ".join(f"{item.token}/{item.label}" for item in answer.entities)]
    last = session.exits[-1].layer
    notes = [f"layer {answer.exit_layer}/{last}"]
    notes += ["truncated"] if answer.truncated else []
    notes += ["deadline"] if answer.deadline_hit else []
    shown = text if isinstance(text, str) else " | ".join(text)
    cells = [*columns, ", ".join(notes), shown]
    return "\t".join(printable(" ".join(cell.split())) for cell in cells)

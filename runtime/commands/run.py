"""`effbert run`: answers texts on the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from effbert.runtime.commands.shared_options import (
    device_options,
    engine_option,
    fallback_option,
    json_option,
    revision_option,
    threads_option,
)
from effbert.runtime.console.groups import Reporting
from effbert.runtime.console.parameters import KnobSetting
from effbert.runtime.console.tables import printable
from effbert.runtime.errors import InputError

if TYPE_CHECKING:
    from effbert.runtime.chain.knobs import KnobValue
    from effbert.runtime.session import Session
    from effbert.runtime.texts.predictions import Prediction
    from effbert.runtime.texts.tokenization import Text


EXAMPLES = """
\b
Examples:
  effbert run ./bundle "An easy sentence." "Another one."
  effbert run ./bundle --file texts.csv --operating-point loss-0.5 --json
  cat texts.txt | effbert run ./bundle --knob threshold=0.3
"""


@click.command(cls=Reporting, epilog=EXAMPLES)
@click.argument("bundle")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Read the texts from this file: one a line, or a .csv with the column text.",
)
@click.option(
    "--knob",
    "knobs",
    multiple=True,
    type=KnobSetting(),
    help="Set a knob; one value, or with commas one an exit or, for lengths, a layer.",
)
@click.option("--operating-point", metavar="NAME", help="Knob values to start from.")
@revision_option
@engine_option
@device_options
@fallback_option
@threads_option
@click.option(
    "--special-tokens-in-text/--no-special-tokens-in-text",
    default=True,
    help="Whether [SEP] and the like in a text are special tokens, as the checkpoint has it; "
    "--no-... for texts of strangers.",
)
@click.option("--deadline-ms", type=float, help="Take the best answer after this time.")
@json_option("object a line")
def run(
    bundle: str,
    texts: tuple[str, ...],
    file: Path | None,
    knobs: tuple[tuple[str, KnobValue], ...],
    operating_point: str | None,
    revision: str | None,
    engine: str | None,
    threads: int | None,
    special_tokens_in_text: bool,
    deadline_ms: float | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Answer texts with BUNDLE.

    The texts are the arguments, the lines of a file, or else the lines of standard input; a tab
    separates the two texts of a pair.
    """
    if texts and file:
        raise InputError("Texts come from the arguments or from --file, not from both.")
    given = _given_texts(texts, file)

    from effbert.runtime.session import Session

    opened = Session(
        bundle,
        engine,
        threads,
        operating_point,
        special_tokens_in_text=special_tokens_in_text,
        revision=revision,
        **where,
    )
    with opened as session:
        answers = session(given, knobs=dict(knobs), deadline_ms=deadline_ms)
        show = _as_json if as_json else _as_columns
        # All answers are there before the first line is printed.
        output = [show(session, text, answer) for text, answer in zip(given, answers, strict=True)]
    click.echo("".join(line + "\n" for line in output), nl=False)


def _given_texts(texts: Sequence[str], file: Path | None) -> list[Text]:
    from effbert.runtime.texts.files import parse_text, read_lines, read_texts

    if texts:
        return [parse_text(number, line) for number, line in enumerate(texts, 1)]
    if file is not None:
        return read_texts(file)
    return read_lines(sys.stdin.buffer, "standard input")


def _as_json(session: Session, text: Text, answer: Prediction) -> str:
    from msgspec import json

    return json.encode({"text": text, **answer.to_dict()}).decode()


def _as_columns(session: Session, text: Text, answer: Prediction) -> str:
    """Answer, score, layer and text, separated by tabs; the entities of a text in one column."""
    from effbert.runtime.texts.predictions import Answer, Classification, TokenLabels

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

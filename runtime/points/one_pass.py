"""The facts of all exits on some examples, computed once and kept beside the bundle.

Examples are read, tokenized and answered in pieces, and each piece is written when it is known: an
interrupted pass goes on where it was, and a second one reads what the first has written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import msgspec
import numpy as np

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.chain.results import ExitAnswers
from effbert.runtime.errors import ResourceError
from effbert.runtime.points.examples import Example, Examples, in_chunks
from effbert.runtime.points.grading import OF_EXITS, Facts, grade
from effbert.runtime.session import ROWS_OF_TEXT, Session
from effbert.runtime.texts.tokenization import EncodedText, TextEncoder

PIECE = 1024  # examples
EXTRA = ("signals", "tokens", "line")
ROW_AXIS = dict.fromkeys((*OF_EXITS, "signals"), 1)
VERSION = 3  # of what is kept


@dataclass(frozen=True)
class Pass:
    """What one pass found.

    Attributes:
        facts: As `grading.grade` makes them.
        signals: float32 [exits, rows].
        tokens: int64 [rows].
        lines: int64 [rows], where the examples stand in their file.
    """

    facts: Facts
    signals: np.ndarray
    tokens: np.ndarray
    lines: np.ndarray


class Batch(NamedTuple):
    """Examples that are answered together, and the inputs of a session."""

    texts: list[EncodedText]
    examples: list[Example]
    inputs: dict[str, np.ndarray]


Answer = Callable[[Session, Batch, Mapping[str, Any]], ExitAnswers]


class Prepared(NamedTuple):
    """Examples in batches of similar length; `back` puts their rows into the old order."""

    batches: list[Batch]
    back: np.ndarray


def one_pass(
    session: Session,
    examples: Examples,
    full: Mapping[str, Any],
    ways: Sequence[Mapping[str, Any]],
    folders: Sequence[Path],
    tell: Callable[[int], None] = lambda rows: None,
    answer: Answer | None = None,
) -> list[Pass]:
    """Answer every example at every exit.

    Args:
        session: Of a bundle with a tokenizer.
        examples: Labelled or not.
        full: Knob values of the full model, with whose last exit all answers are compared.
        ways: Sets of knob values, at which all but the exits' comparison happens.
        folders: Where the pieces of each are kept, see `kept_at`; made if needed.
        tell: Told the number of examples done, now and then.
        answer: How to answer, if not at every exit.

    Returns:
        What was found for each of the ways.

    Raises:
        InputError: An example cannot be read or tokenized.
        ResourceError: A piece cannot be written.
        RunError: The engine failed.
    """
    encoder = TextEncoder(session.bundle)
    pieces: list[list[Facts]] = [[] for _ in ways]
    done = 0
    for number, chunk in enumerate(in_chunks(iter(examples), PIECE)):
        files = [folder / f"{number:06d}.npz" for folder in folders]
        found = [_kept(file, chunk) for file in files]
        if missing := [index for index, piece in enumerate(found) if piece is None]:
            fresh = _answered(session, prepare(encoder, chunk), full, ways, missing, answer)
            for index, new in fresh.items():
                _keep(files[index], new)
                found[index] = new
        for kept, piece in zip(pieces, found, strict=True):
            assert piece is not None
            kept.append(piece)
        done += len(chunk)
        tell(done)
    return [joined(each) for each in pieces]


def prepare(encoder: TextEncoder, examples: Sequence[Example]) -> Prepared:
    """Tokenize some examples, and put those of similar length together."""
    encoded = encoder.encode([example.text for example in examples])
    order = sorted(range(len(examples)), key=lambda index: len(encoded[index].ids))
    batches = []
    for start in range(0, len(order), ROWS_OF_TEXT):
        rows = order[start : start + ROWS_OF_TEXT]
        texts = [encoded[row] for row in rows]
        batches.append(Batch(texts, [examples[row] for row in rows], encoder.padded(texts)))
    return Prepared(batches, np.argsort(order))


def _answered(
    session: Session,
    prepared: Prepared,
    full: Mapping[str, Any],
    ways: Sequence[Mapping[str, Any]],
    wanted: Sequence[int],
    answer: Answer | None,
) -> dict[int, Facts]:
    """Answer examples in some of the ways, and with the full model once."""
    parts: dict[int, list[Facts]] = {index: [] for index in wanted}
    for batch in prepared.batches:
        right = session.run_exits(batch.inputs, full)
        for index in wanted:
            if answer is not None:
                here = answer(session, batch, ways[index])
            elif ways[index] == full:
                here = right
            else:
                here = session.run_exits(batch.inputs, ways[index])
            parts[index].append(graded(session.bundle.manifest, batch, here, right))
    return {index: in_order(found, prepared.back) for index, found in parts.items()}


def graded(
    manifest: Manifest, batch: Batch, answers: ExitAnswers, full: Mapping[str, np.ndarray]
) -> Facts:
    """Grade the answers of exits, beside those of the full model.

    Args:
        manifest: Of the bundle.
        batch: The examples.
        answers: Of all exits.
        full: Of the full model, [exits, rows, ...]; the last exit counts.

    Returns:
        Facts of `grading.grade`, and those named in `EXTRA`.
    """
    both = {name: np.concatenate([answers[name], full[name][-1:]]) for name in answers}
    facts = grade(manifest, batch.texts, batch.examples, both)
    own = {name: value[:-1] if name in OF_EXITS else value for name, value in facts.items()}
    return own | {
        "signals": answers.signal,
        "tokens": np.array([len(text.ids) for text in batch.texts], dtype=np.int32),
        "line": np.array([example.line for example in batch.examples]),
    }


def in_order(parts: Sequence[Facts], back: np.ndarray) -> Facts:
    """Put the facts of batches together, and their rows into the order of the examples."""
    axes = {name: ROW_AXIS.get(name, 0) for name in parts[0]}
    return {
        name: np.concatenate([part[name] for part in parts], axis=axis).take(back, axis=axis)
        for name, axis in axes.items()
    }


def joined(pieces: Sequence[Facts]) -> Pass:
    """Put the facts of pieces together; the pieces are emptied."""
    whole = {
        name: np.concatenate([piece.pop(name) for piece in pieces], axis=ROW_AXIS.get(name, 0))
        for name in [*pieces[0]]
    }
    signals, tokens, lines = (whole.pop(name) for name in EXTRA)
    return Pass(whole, signals, tokens, lines)


def digest_of(data: Path) -> str:
    """Hash a file, or a folder of files."""
    found = hashlib.sha256()
    for file in sorted(data.rglob("*")) if data.is_dir() else [data]:
        if file.is_file():
            with file.open("rb") as opened:
                while block := opened.read(1 << 20):
                    found.update(block)
    return found.hexdigest()


def kept_at(session: Session, about: Sequence[Any]) -> Path:
    """Name the place of what is kept: all that it depends on is in the name.

    Args:
        session: Of the bundle; the engine counts too, for it rounds in its own way.
        about: What else it depends on.

    Returns:
        BUNDLE.tune/HASH beside the bundle.
    """
    found = hashlib.sha256()
    manifest = session.bundle.manifest
    for name in sorted(manifest.files):
        found.update(f"{name} {manifest.files[name].sha256}\n".encode())
    found.update(msgspec.json.encode([VERSION, session.engine, manifest.labels, *about]))
    bundle = session.bundle.path.absolute()
    return bundle.with_name(f"{bundle.name}.tune") / found.hexdigest()[:16]


def _kept(file: Path, chunk: Sequence[Example]) -> Facts | None:
    """Read a piece that was written; None if there is none, or another one."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            piece = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        return None
    lines = piece.get("line", np.zeros(0))
    same = lines.tolist() == [example.line for example in chunk]
    return piece if same and set(EXTRA) <= set(piece) else None


def _keep(file: Path, piece: Facts) -> None:
    passing = file.with_suffix(f".{os.getpid()}.npz")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(passing, **piece)  # type: ignore[arg-type]  # its other arguments are newer
        passing.replace(file)
    except OSError as error:
        passing.unlink(missing_ok=True)
        raise ResourceError(
            f"{file.parent} cannot be written: {error.strerror}; the answers of the exits are kept "
            "beside the bundle."
        ) from error

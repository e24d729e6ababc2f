"""The facts of all exits on some examples, computed once and kept beside the bundle.

Examples are read, tokenized and answered in pieces, and each piece is written when it is known: an
interrupted pass goes on where it was, and a second one reads what the first has written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np

from effbert.runtime.errors import ResourceError
from effbert.runtime.points.examples import Example, Examples, in_chunks
from effbert.runtime.points.grading import OF_EXITS, Facts, grade
from effbert.runtime.session import ROWS_OF_TEXT, Session
from effbert.runtime.texts.tokenization import EncodedText, TextEncoder

PIECE = 1024  # examples
EXTRA = ("signals", "tokens", "line")
ROW_AXIS = dict.fromkeys((*OF_EXITS, "signals"), 1)
VERSION = 2  # of what is kept


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


def one_pass(
    session: Session,
    examples: Examples,
    knobs: Mapping[str, Any],
    folder: Path,
    tell: Callable[[int], None] = lambda rows: None,
) -> Pass:
    """Answer every example at every exit.

    Args:
        session: Of a bundle with a tokenizer.
        examples: Labelled or not.
        knobs: Values at which all but the exits' comparison happens.
        folder: Where pieces are kept, see `cache_folder`; made if needed.
        tell: Told the number of examples done, now and then.

    Raises:
        InputError: An example cannot be read or tokenized.
        ResourceError: A piece cannot be written.
        RunError: The engine failed.
    """
    encoder = TextEncoder(session.bundle)
    pieces, done = [], 0
    for number, chunk in enumerate(in_chunks(iter(examples), PIECE)):
        file = folder / f"{number:06d}.npz"
        piece = _kept(file, chunk)
        if piece is None:
            piece = _piece(session, encoder, chunk, knobs)
            _keep(file, piece)
        pieces.append(piece)
        done += len(chunk)
        tell(done)
    whole = {
        name: np.concatenate([piece[name] for piece in pieces], axis=ROW_AXIS.get(name, 0))
        for name in pieces[0]
    }
    signals, tokens, lines = (whole.pop(name) for name in EXTRA)
    return Pass(whole, signals, tokens, lines)


def _piece(
    session: Session, encoder: TextEncoder, chunk: Sequence[Example], knobs: Mapping[str, Any]
) -> Facts:
    """Answer some examples, short ones first, and put the facts back into their order."""
    encoded = encoder.encode([example.text for example in chunk])
    order = sorted(range(len(chunk)), key=lambda index: len(encoded[index].ids))
    parts = []
    for start in range(0, len(order), ROWS_OF_TEXT):
        rows = order[start : start + ROWS_OF_TEXT]
        texts = [encoded[row] for row in rows]
        parts.append(_part(session, encoder, texts, [chunk[row] for row in rows], knobs))
    back = np.argsort(order)
    return {
        name: np.take(
            np.concatenate([part[name] for part in parts], axis=ROW_AXIS.get(name, 0)),
            back,
            axis=ROW_AXIS.get(name, 0),
        )
        for name in parts[0]
    }


def _part(
    session: Session,
    encoder: TextEncoder,
    texts: list[EncodedText],
    examples: Sequence[Example],
    knobs: Mapping[str, Any],
) -> Facts:
    answers = session.run_exits(encoder.padded(texts), knobs)
    return grade(session.bundle.manifest, texts, examples, answers) | {
        "signals": answers.signal,
        "tokens": np.array([len(text.ids) for text in texts]),
        "line": np.array([example.line for example in examples]),
    }


def cache_folder(
    session: Session, data: Path, knobs: Mapping[str, Any], columns: Iterable[str | None]
) -> Path:
    """Name the folder of a pass: what it depends on is in the name.

    Args:
        session: Of the bundle; the engine counts too, for it rounds in its own way.
        data: A file, or a folder of files.
        knobs: As for `one_pass`.
        columns: Of the data.

    Returns:
        BUNDLE.tune/HASH beside the bundle.
    """
    found = hashlib.sha256()
    manifest = session.bundle.manifest
    for name in sorted(manifest.files):
        found.update(f"{name} {manifest.files[name].sha256}\n".encode())
    about = [VERSION, session.engine, dict(knobs), [*columns], manifest.labels]
    found.update(msgspec.json.encode(about))
    for file in sorted(data.rglob("*")) if data.is_dir() else [data]:
        if file.is_file():
            with file.open("rb") as opened:
                while block := opened.read(1 << 20):
                    found.update(block)
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

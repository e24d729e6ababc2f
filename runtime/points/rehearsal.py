"""Chosen knob values on the session itself: texts leave as foreseen, and take so much time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from effbert.runtime.errors import RunError
from effbert.runtime.points.choices import Choice
from effbert.runtime.points.examples import Examples
from effbert.runtime.session import Session
from effbert.runtime.texts.tokenization import Text

COMPARED = 2048  # examples whose exits are compared
TIMED = 100  # examples that are timed alone
ROUNDS = 3  # of which the quickest counts


class Timed(NamedTuple):
    """Milliseconds a text alone: mean and median, and the mean at full depth beside it."""

    mean: float
    median: float
    full: float


def leaving_elsewhere(session: Session, texts: Sequence[Text], choice: Choice) -> int:
    """Count the texts that leave elsewhere than a choice on the same texts foresees."""
    layers = np.array([answer.exit_layer for answer in session(texts, choice.knobs)])
    return int((layers != choice.layers).sum())


def rehearse(
    session: Session,
    examples: Examples,
    rows: np.ndarray,
    chosen: Mapping[str, Choice],
    full: Mapping[str, Any],
    foreseen: bool,
) -> dict[str, Timed]:
    """Run every choice.

    Args:
        session: Of the bundle.
        examples: Among them those that the choices were made on.
        rows: int64, the indices of these.
        chosen: Name -> choice.
        full: Knob values of the full model.
        foreseen: Whether choices say where texts leave.

    Returns:
        Name -> times.

    Raises:
        RunError: Texts leave elsewhere than the signals say.
    """
    texts = _texts(examples, rows[:COMPARED])
    for name, choice in chosen.items() if foreseen else ():
        some = choice._replace(layers=choice.layers[: len(texts)])
        if different := leaving_elsewhere(session, texts, some):
            raise RunError(
                f"At {name}, {different} of {len(texts)} texts leave elsewhere than the signals of "
                "the exits say; the engine gives other answers in other batches, so choose another "
                "engine."
            )
    timed = [texts[index] for index in np.linspace(0, len(texts) - 1, TIMED).astype(int)]
    ways = {"": full, **{name: choice.knobs for name, choice in chosen.items()}}
    seconds = np.zeros((ROUNDS, len(timed), len(ways)))
    for row, text in enumerate(timed):
        session([text])  # a new length is slower once
        for each in range(ROUNDS):
            for column, knobs in enumerate(ways.values()):
                started = time.perf_counter()
                session([text], knobs)
                seconds[each, row, column] = time.perf_counter() - started
    best = 1000 * seconds.min(axis=0)
    means, medians = best.mean(axis=0), np.median(best, axis=0)
    return {
        name: Timed(float(means[index]), float(medians[index]), float(means[0]))
        for index, name in enumerate(ways)
        if name
    }


def _texts(examples: Examples, rows: np.ndarray) -> list[Text]:
    wanted = set(rows.tolist())
    found = islice(examples, int(rows[-1]) + 1)
    return [example.text for index, example in enumerate(found) if index in wanted]

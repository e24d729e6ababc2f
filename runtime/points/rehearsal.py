"""Chosen knob values on the session itself: texts leave as foreseen, and take so much time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np

from effbert.runtime.errors import RunError
from effbert.runtime.points.choices import Choice
from effbert.runtime.points.examples import Examples
from effbert.runtime.session import Session

COMPARED = 2048  # examples whose exits are compared
TIMED = 100  # examples that are timed alone
ROUNDS = 3  # of which the quickest counts


class Timed(NamedTuple):
    """Milliseconds a text alone: mean and median, and the mean at full depth beside it."""

    mean: float
    median: float
    full: float


def rehearse(
    session: Session, examples: Examples, chosen: Mapping[str, Choice], full: Choice
) -> dict[str, Timed]:
    """Run every choice.

    Args:
        session: Of the bundle.
        examples: Those that the choices were made on.
        chosen: Name -> choice.
        full: Full depth.

    Returns:
        Name -> times.

    Raises:
        RunError: Texts leave elsewhere than the signals say.
    """
    texts = [example.text for example in islice(examples, COMPARED)]
    for name, choice in chosen.items():
        answers = session(texts, choice.knobs)
        layers = np.array([answer.exit_layer for answer in answers])
        expected = choice.layers[: len(texts)]
        if different := int((layers != expected).sum()):
            raise RunError(
                f"At {name}, {different} of {len(texts)} texts leave elsewhere than the signals of "
                "the exits say, so this bundle cannot be tuned by a sweep; use effbert search."
            )
    timed = [texts[index] for index in np.linspace(0, len(texts) - 1, TIMED).astype(int)]
    ways = {"": full.knobs, **{name: choice.knobs for name, choice in chosen.items()}}
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

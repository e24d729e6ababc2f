"""What a text costs that leaves at each exit: milliseconds alone on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effbert.runtime.bundle.manifest import Knob, Manifest, to_float
from effbert.runtime.session import Session

LENGTHS = 4  # of texts that are timed
ROUNDS = 7
CLOSE_ROUNDS = 41  # where a small difference is asked for


def exit_costs(
    session: Session,
    manifest: Manifest,
    knobs: Mapping[str, Any],
    knob: Knob | None,
    tokens: np.ndarray,
) -> np.ndarray:
    """Time texts that leave at each exit, and read off what every row costs.

    Rows of some lengths are timed, all exits in turn, and the medians are taken; rows between two
    lengths cost what lies between. Where the knob has one value for all exits, only full depth is
    timed, and its time is shared out by the FLOPs of the segments.

    Args:
        session: Of the bundle.
        manifest: Of the variant that runs.
        knobs: Of all calls.
        knob: The threshold; None if no row leaves early.
        tokens: int64 [rows], tokens of each row.

    Returns:
        float64 [exits, rows], milliseconds.
    """
    lengths = _lengths(tokens)
    exits = len(manifest.segments)
    if knob is None:
        ways = [knobs]
    elif knob.per_exit:
        ways = [{**knobs, knob.name: _leaving_at(index, exits, knob)} for index in range(exits)]
    else:
        never = to_float(knob.never)
        ways = [{**knobs, knob.name: int(never) if knob.dtype == "int64" else never}]
    turns = [(session, way) for way in ways]
    seconds = np.stack([np.median(_times(length, turns, ROUNDS), axis=0) for length in lengths])
    if len(ways) < exits:
        seconds = seconds[:, -1:] * _shares(manifest, lengths)
    seconds = np.maximum.accumulate(seconds, axis=1)
    return 1000 * np.stack([np.interp(tokens, lengths, column) for column in seconds.T])


def _leaving_at(index: int, exits: int, knob: Knob) -> list[float]:
    never = to_float(knob.never)
    always = to_float(knob.maximum if knob.raising == "earlier" else knob.minimum)
    return [never] * index + [always] * (exits - index)


def cost_of_an_exit(session: Session, one_exit: Session, tokens: np.ndarray) -> float:
    """Time what an exit adds to a text that does not leave there: its head and its boundary.

    That is the difference between two bundles of one model at full depth, shared among the exits
    that only one of them has. Heads read one vector of a text, so length does not count.

    Args:
        session: Of the bundle with all exits.
        one_exit: Of a bundle with the last of them only.
        tokens: int64 [rows], tokens of each row.

    Returns:
        Milliseconds, at least 0.
    """
    lengths = _lengths(tokens)
    never = {
        knob.name: int(to_float(knob.never)) if knob.dtype == "int64" else to_float(knob.never)
        for knob in session.bundle.manifest.knobs
        if knob.choices is None
    }
    turns: list[tuple[Session, Mapping[str, Any]]] = [(session, never), (one_exit, {})]
    # The quickest rounds: what others do on this machine must not hide a small difference.
    quickest = np.stack([_times(length, turns, CLOSE_ROUNDS).min(axis=0) for length in lengths])
    more = max(0.0, float(np.median(quickest[:, 0] - quickest[:, 1])))
    return 1000 * more / max(1, len(session.exits) - 1)


def _lengths(tokens: np.ndarray) -> np.ndarray:
    return np.unique(np.quantile(tokens, np.linspace(0, 1, LENGTHS)).round().astype(int))


def _times(
    length: int, ways: Sequence[tuple[Session, Mapping[str, Any]]], rounds: int
) -> np.ndarray:
    """Seconds of one row of a length in sessions with knob values, [rounds, ways]; in turns."""
    taken = np.zeros((1 + rounds, len(ways)))
    for each in range(1 + rounds):  # the first warms up
        for way, (session, knobs) in enumerate(ways):
            ids = (np.arange(length) % session.bundle.manifest.limits.vocab_size)[None]
            started = time.perf_counter()
            session.run({"input_ids": ids}, knobs)
            taken[each, way] = time.perf_counter() - started
    return taken[1:]


def _shares(manifest: Manifest, lengths: np.ndarray) -> np.ndarray:
    """Share of the FLOPs of full depth up to each exit, float64 [lengths, exits]."""
    each = np.array([segment.flops for segment in manifest.segments], dtype=float)
    powers = np.stack([np.ones(len(lengths)), lengths, lengths.astype(float) ** 2])
    total = np.cumsum(each @ powers, axis=0)
    return np.asarray((total / np.maximum(total[-1], 1)).T)

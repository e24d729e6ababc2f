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
    seconds = np.stack([_medians(length, [(session, way) for way in ways]) for length in lengths])
    if len(ways) < exits:
        seconds = seconds[:, -1:] * _shares(manifest, lengths)
    seconds = np.maximum.accumulate(seconds, axis=1)
    return 1000 * np.stack([np.interp(tokens, lengths, column) for column in seconds.T])


def _leaving_at(index: int, exits: int, knob: Knob) -> list[float]:
    never = to_float(knob.never)
    always = to_float(knob.maximum if knob.raising == "earlier" else knob.minimum)
    return [never] * index + [always] * (exits - index)


def cost_of_an_exit(session: Session, one_exit: Session, tokens: np.ndarray) -> np.ndarray:
    """Time what an exit adds to a text that does not leave there: its head and its boundary.

    That is the difference between two bundles of one model at full depth, shared among the exits
    that only one of them has.

    Args:
        session: Of the bundle with all exits.
        one_exit: Of a bundle with the last of them only.
        tokens: int64 [rows], tokens of each row.

    Returns:
        float64 [rows], milliseconds, at least 0.
    """
    lengths = _lengths(tokens)
    never = {
        knob.name: int(to_float(knob.never)) if knob.dtype == "int64" else to_float(knob.never)
        for knob in session.bundle.manifest.knobs
        if knob.choices is None
    }
    times = [_medians(length, [(session, never), (one_exit, {})]) for length in lengths]
    more, less = np.array(times).T
    each = np.maximum(0.0, more - less) / max(1, len(session.exits) - 1)
    return np.asarray(1000 * np.interp(tokens, lengths, each))


def _lengths(tokens: np.ndarray) -> np.ndarray:
    return np.unique(np.quantile(tokens, np.linspace(0, 1, LENGTHS)).round().astype(int))


def _medians(length: int, ways: Sequence[tuple[Session, Mapping[str, Any]]]) -> np.ndarray:
    """Seconds of one row of a length in sessions with knob values; they take turns."""
    taken = np.zeros((1 + ROUNDS, len(ways)))
    for each in range(1 + ROUNDS):  # the first warms up
        for way, (session, knobs) in enumerate(ways):
            ids = (np.arange(length) % session.bundle.manifest.limits.vocab_size)[None]
            started = time.perf_counter()
            session.run({"input_ids": ids}, knobs)
            taken[each, way] = time.perf_counter() - started
    return np.asarray(np.median(taken[1:], axis=0))


def _shares(manifest: Manifest, lengths: np.ndarray) -> np.ndarray:
    """Share of the FLOPs of full depth up to each exit, float64 [lengths, exits]."""
    each = np.array([segment.flops for segment in manifest.segments], dtype=float)
    powers = np.stack([np.ones(len(lengths)), lengths, lengths.astype(float) ** 2])
    total = np.cumsum(each @ powers, axis=0)
    return np.asarray((total / np.maximum(total[-1], 1)).T)

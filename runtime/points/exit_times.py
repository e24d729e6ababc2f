"""What a text costs that leaves at each exit: milliseconds on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effbert.runtime.bundle.manifest import Knob, Manifest, to_float
from effbert.runtime.points.costs import row_flops, tokens_kept_at
from effbert.runtime.session import Session

LENGTHS = 4  # of texts that are timed
ROUNDS = 7
CLOSE_ROUNDS = 41  # where a small difference is asked for


class ExitTimes:
    """Times rows of some lengths, each way beside the full model, which only sets the scale.

    A machine that slows down between two ways slows the full model as well, so that it does not
    favour the way that came first.
    """

    def __init__(self, session: Session, full: Mapping[str, Any], rows: int = 1) -> None:
        """Say what is timed.

        Args:
            session: Of the bundle.
            full: Knob values of the full model.
            rows: How many texts of one length run together.
        """
        self._session, self._full, self._rows = session, full, rows
        self._full_seconds: dict[int, float] = {}

    def of_rows(
        self,
        manifest: Manifest,
        knobs: Mapping[str, Any],
        knob: Knob | None,
        tokens: np.ndarray,
    ) -> np.ndarray:
        """Time texts that leave at each exit, and read off what every row costs.

        Texts of some lengths are timed, all exits in turn, and the medians are taken; rows between
        two lengths cost what lies between. Where the knob has one value for all exits, only the
        last exit is timed, and its time is shared out by the FLOPs of the segments.

        Args:
            manifest: Of the variant that runs.
            knobs: Of all calls.
            knob: The threshold; None if no row leaves early.
            tokens: Integers [rows], tokens of each row.

        Returns:
            float32 [exits, rows], milliseconds a row.
        """
        lengths = _lengths(tokens)
        exits = len(manifest.segments)
        if knob is None:
            ways = [knobs]
        elif knob.per_exit:
            ways = [{**knobs, knob.name: leaving_at(index, exits, knob)} for index in range(exits)]
        else:
            never = to_float(knob.never)
            ways = [{**knobs, knob.name: int(never) if knob.dtype == "int64" else never}]
        seconds = np.stack([self._seconds(int(length), ways) for length in lengths])
        if len(ways) < exits:
            flops = row_flops(manifest, tokens_kept_at(manifest, knobs, lengths), lengths)
            seconds = seconds[:, -1:] * (flops / np.maximum(flops[-1], 1)).T
        seconds = np.maximum.accumulate(seconds, axis=1)
        found = [np.interp(tokens, lengths, column) for column in seconds.T]
        return (1000 * np.stack(found)).astype(np.float32)

    def _seconds(self, length: int, ways: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Seconds a row of a length, for each set of knob values; medians of runs in turn."""
        turns = [(self._session, way) for way in (*ways, self._full)]
        *found, full = np.median(_times(length, turns, ROUNDS, self._rows), axis=0)
        scale = self._full_seconds.setdefault(length, full) / full
        return np.asarray(scale * np.array(found) / self._rows)


def leaving_at(index: int, exits: int, knob: Knob) -> list[float]:
    """Give thresholds, one an exit, at which all rows leave at an exit and none before."""
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
    length: int, ways: Sequence[tuple[Session, Mapping[str, Any]]], rounds: int, rows: int = 1
) -> np.ndarray:
    """Seconds of rows of a length in sessions with knob values, [rounds, ways]; in turns."""
    taken = np.zeros((1 + rounds, len(ways)))
    for each in range(1 + rounds):  # the first warms up
        for way, (session, knobs) in enumerate(ways):
            ids = np.arange(length) % session.bundle.manifest.limits.vocab_size
            inputs = {"input_ids": np.repeat(ids[None], rows, axis=0)}
            started = time.perf_counter()
            session.run(inputs, knobs)
            taken[each, way] = time.perf_counter() - started
    return taken[1:]

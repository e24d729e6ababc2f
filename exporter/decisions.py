"""Compare where rows leave a bundle with where the policy lets them leave the torch model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from effbert.exporter.model import OVERRIDE, WORD_MAP
from effbert.exporter.oracle import PolicyOracle, Watched
from effbert.exporter.reference import (
    ROUNDING,
    Choice,
    Outputs,
    Reference,
    padded_batch,
    short_rows,
)
from effbert.runtime import Session
from effbert.runtime.errors import ParityError
from effbert.runtime.inputs import NO_WORD
from effbert.runtime.manifest import numbers
from effbert.runtime.results import Result

DECIDED = 32


def compare_decisions(
    session: Session, reference: Reference, found: Outputs, oracle: PolicyOracle, atol: float
) -> tuple[int, int]:
    """Run with a few knob settings; each row must leave where torch's outputs or ours say.

    Args:
        session: the bundle.
        reference: what torch says.
        found: the logits of our segments, per row; empty where rounding decides about them.
        oracle: the policy.
        atol: largest difference allowed between answers.

    Returns:
        Decisions compared, and how many differ from torch's because rounding crossed a threshold.

    Raises:
        ParityError: a row leaves at another exit.
    """
    rows = sorted(short_rows(reference.rows), key=lambda i: len(reference.rows[i].input_ids))
    rows = [row for row in rows if found["logits"][row].size][:DECIDED]
    if not rows:
        return 0, 0
    compared = near = 0
    for knobs in oracle.trials([_watched(session, reference, row) for row in rows]):
        for row in rows:
            near += _compare_row(session, reference, found, oracle, row, knobs, atol)
        compared += len(rows)
    return compared, near


def _compare_row(
    session: Session,
    reference: Reference,
    found: Outputs,
    oracle: PolicyOracle,
    row: int,
    knobs: Mapping[str, float | int],
    atol: float,
) -> int:
    """Compare one row; 1 if it left elsewhere than torch says, within rounding."""
    theirs = _watched(session, reference, row)
    ours = Watched(dict(theirs.outputs), theirs.inputs)
    if oracle.policy.answer is None:
        ours = Watched({**theirs.outputs, "logits": found["logits"][row][:, None]}, theirs.inputs)
    # A bundle with one exit has no threshold.
    known = {name: value for name, value in knobs.items() if name in session.knobs}
    result = session.run(_inputs(session, reference, row), knobs=_never(session) | known)
    rounded = (ours, theirs.shifted(ROUNDING), theirs.shifted(-ROUNDING))
    for place, watched in enumerate((theirs, *rounded)):
        left, answers = oracle.decide(watched, knobs)
        same = result.exit_index[0] == left[0]
        if same and np.abs(result.logits - answers).max() <= atol:
            return int(place > 0)
    wanted = int(oracle.decide(theirs, knobs)[0][0])
    first = session.exits[min(int(result.exit_index[0]), wanted)]
    raise ParityError(
        f"{first.file} lets a row leave at exit {result.exit_index[0]} where the policy says exit "
        f"{wanted} (knobs {dict(knobs)}); nothing was written. Please report it."
    )


def compare_trials(session: Session, reference: Reference, atol: float) -> tuple[int, int]:
    """Compare what the model itself decides: which tokens leave, or are dropped.

    Significance that is equal but for rounding may drop another token, in a tenth of the rows.

    Returns:
        Rows compared, and how many differ because rounding decided.

    Raises:
        ParityError: rows are answered differently.
    """
    compared = near = 0
    for trial in reference.trials:
        wrong = []
        for row, choices in trial.choices.items():
            result = session.run(
                _inputs(session, reference, row), _never(session) | dict(trial.knobs)
            )
            words = np.array(reference.rows[row].word_map) != NO_WORD
            fits = [_fits(result, choice, words, atol) for choice in choices]
            wrong += [] if any(fits) else [row]
            compared += 1
            near += 0 if fits[0] else 1
        by_word = any(c.exit_layer is not None for each in trial.choices.values() for c in each)
        if len(wrong) > (0 if by_word else len(trial.choices) // 10):
            raise ParityError(
                f"{len(wrong)} of {len(trial.choices)} rows are answered otherwise than by torch "
                f"with knobs {dict(trial.knobs)}; nothing was written. Please report it."
            )
    return compared, near


def _fits(result: Result, choice: Choice, words: np.ndarray, atol: float) -> bool:
    """Tell whether a row's answer is the choice; of words that leave alone only those count."""
    if choice.exit_layer is None:
        return all(
            np.abs(result.outputs[name][0] - value).max() <= atol
            for name, value in choice.outputs.items()
        )
    same = np.array_equal(result.exit_layer[0][words], choice.exit_layer[words])
    difference = np.abs(result.outputs["logits"][0] - choice.outputs["logits"])
    return same and difference[words].max(initial=0) <= atol


def _never(session: Session) -> dict[str, Any]:
    """Every knob at the value that never exits early, whatever its default."""
    return {name: numbers(knob.never) for name, knob in session.knobs.items()}


def _inputs(session: Session, reference: Reference, row: int) -> dict[str, np.ndarray]:
    manifest = session.bundle.manifest
    names = [item.name for item in manifest.inputs]
    return padded_batch([reference.rows[row]], manifest.limits.pad_id, names)


def _watched(session: Session, reference: Reference, row: int) -> Watched:
    outputs = {
        name: values[row][None] if name == OVERRIDE else values[row][:, None]
        for name, values in reference.outputs.items()
    }
    names = ("attention_mask", WORD_MAP)
    pad = session.bundle.manifest.limits.pad_id
    return Watched(outputs, padded_batch([reference.rows[row]], pad, names))

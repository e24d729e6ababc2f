"""Compare where rows leave a bundle with where the policy lets them leave the torch model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from effbert.exporter.models.exit_model import OVERRIDE, WORD_MAP
from effbert.exporter.rows.batching import padded_batch, session_batch, short_rows
from effbert.exporter.verify.oracle import PolicyOracle, Watched
from effbert.exporter.verify.tolerance import TIMES, Tolerance
from effbert.exporter.verify.torch_answers import ROUNDING, Choice, Outputs, Reference
from effbert.runtime import Result, Session
from effbert.runtime.bundle.manifest import to_numbers
from effbert.runtime.bundle.names import NO_WORD
from effbert.runtime.errors import ParityError

DECIDED = 32


def compare_decisions(
    session: Session,
    reference: Reference,
    found: Outputs,
    oracle: PolicyOracle,
    tolerance: Tolerance,
) -> tuple[int, int]:
    """Run with a few knob settings; each row must leave where torch's outputs or ours say.

    Args:
        session: The bundle.
        reference: What torch says.
        found: The logits of our segments, per row; empty where rounding decides about them.
        oracle: The policy.
        tolerance: The difference allowed between answers.

    Returns:
        Decisions compared, and how many differ from torch's because rounding crossed a threshold.

    Raises:
        ParityError: A row leaves at another exit.
    """
    compared = near = 0
    for run in runs_with_trials(session, reference, found, oracle):
        near += _compare_rows(session, run, found, oracle, tolerance)
        compared += len(run.rows)
    return compared, near


class TrialRun(NamedTuple):
    """What torch says about some rows, knob values, and where the bundle lets them leave."""

    theirs: Watched
    knobs: Mapping[str, float | int]
    result: Result
    rows: Sequence[int]


def runs_with_trials(
    session: Session, reference: Reference, found: Outputs, oracle: PolicyOracle
) -> Iterator[TrialRun]:
    """Run short rows with a few knob settings that spread them over the exits."""
    rows = sorted(short_rows(reference.rows), key=lambda i: len(reference.rows[i].input_ids))
    rows = [row for row in rows if found["logits"][row].size][:DECIDED]
    if not rows:
        return
    # Answers of every token cannot be stacked, so such rows are compared one by one.
    by_token = found["logits"][rows[0]].ndim > 2
    groups = [[row] for row in rows] if by_token else [rows]
    watched = [_watched(session, reference, group) for group in groups]
    for knobs in oracle.trials(watched):
        # A bundle with one exit has no threshold.
        known = {name: value for name, value in knobs.items() if name in session.knobs}
        for group, theirs in zip(groups, watched, strict=True):
            inputs = session_batch([reference.rows[row] for row in group], session)
            yield TrialRun(theirs, knobs, session.run(inputs, _never(session) | known), group)


def _compare_rows(
    session: Session, run: TrialRun, found: Outputs, oracle: PolicyOracle, tolerance: Tolerance
) -> int:
    """Compare rows, and count those that left elsewhere than torch says, within rounding."""
    theirs, knobs, result, rows = run
    ours = theirs
    if oracle.policy.answer is None:
        logits = np.stack([found["logits"][row] for row in rows], axis=1)
        ours = Watched({**theirs.outputs, "logits": logits}, theirs.inputs)
    fits = []
    for watched in (theirs, ours, theirs.shifted(ROUNDING), theirs.shifted(-ROUNDING)):
        left, answers = oracle.decide(watched, knobs)
        near = np.abs(result.logits - answers) <= tolerance.allowed(answers, left)
        fits.append((result.exit_index == left) & near.reshape(len(rows), -1).all(axis=1))
        if fits[-1].all():
            break
    wrong = np.flatnonzero(~np.any(fits, axis=0))
    if len(wrong):
        wanted = int(oracle.decide(theirs, knobs)[0][wrong[0]])
        taken = int(result.exit_index[wrong[0]])
        raise ParityError(
            f"{session.exits[min(taken, wanted)].file} lets a row leave at exit {taken} where the "
            f"policy says exit {wanted} (knobs {dict(knobs)}); nothing was written. Please report "
            "it."
        )
    return int((~fits[0]).sum())


def compare_trials(
    session: Session,
    reference: Reference,
    tolerance: Tolerance,
    exactly: Callable[[], Reference] | None,
) -> tuple[int, int]:
    """Compare what the model itself decides: which tokens leave, or are dropped.

    Significance that is equal but for rounding may drop another token, in a tenth of the rows.

    Args:
        session: The bundle.
        reference: What torch says.
        tolerance: The difference allowed between answers.
        exactly: What torch says in float64, asked where a row differs; None to leave it at that.

    Returns:
        Rows compared, and how many differ because rounding decided.

    Raises:
        ParityError: Rows are answered differently.
    """
    compared = near = 0
    for number, trial in enumerate(reference.trials):
        wrong = []
        for row, choices in trial.choices.items():
            inputs = session_batch([reference.rows[row]], session)
            result = session.run(inputs, _never(session) | dict(trial.knobs))
            words = np.array(reference.rows[row].word_map) != NO_WORD
            fits = [_fits(result, choice, words, tolerance.widest()) for choice in choices]
            if not any(fits) and exactly is not None:
                exact = exactly().trials[number].choices[row]
                pairs = zip(choices, exact, strict=True)
                fits.append(any(_rounds(result, *pair, words) for pair in pairs))
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


def _fits(result: Result, choice: Choice, words: np.ndarray, tolerance: Tolerance) -> bool:
    """Tell whether a row's answer is the choice; of words that leave alone only those count."""
    return _leaves_as(result, choice, words) and all(
        (np.abs(_counted(result.outputs[name][0], choice, words) - value) <= allowed).all()
        for name, value in _counted_outputs(choice, words)
        for allowed in [tolerance.allowed(value[None])[0]]
    )


def _rounds(result: Result, choice: Choice, exact: Choice, words: np.ndarray) -> bool:
    """Tell whether a row is about as far from float64 as torch's float32 is, all leaving alike."""
    leaves = _leaves_as(result, choice, words) and _leaves_as(result, exact, words)
    if not leaves:
        return False
    ours = theirs = 0.0
    for name, truth in _counted_outputs(exact, words):
        found = _counted(result.outputs[name][0], exact, words)
        ours = max(ours, float(np.abs(found - truth).max(initial=0)))
        said = _counted(choice.outputs[name], exact, words)
        theirs = max(theirs, float(np.abs(said - truth).max(initial=0)))
    return ours <= TIMES * theirs


def _leaves_as(result: Result, choice: Choice, words: np.ndarray) -> bool:
    return choice.exit_layer is None or np.array_equal(
        result.exit_layer[0][words], choice.exit_layer[words]
    )


def _counted(values: np.ndarray, choice: Choice, words: np.ndarray) -> np.ndarray:
    """Return those of the words where words leave alone, else all."""
    return values if choice.exit_layer is None else values[words]


def _counted_outputs(choice: Choice, words: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [(name, _counted(value, choice, words)) for name, value in choice.outputs.items()]


def _never(session: Session) -> dict[str, Any]:
    """Every knob at the value that never exits early, whatever its default."""
    return {name: to_numbers(knob.never) for name, knob in session.knobs.items()}


def _watched(session: Session, reference: Reference, rows: Sequence[int]) -> Watched:
    """Tell what the policy sees of the rows; of token-level outputs there may be one row only."""
    outputs = {
        name: np.stack([values[row] for row in rows], axis=0 if name == OVERRIDE else 1)
        for name, values in reference.outputs.items()
    }
    pad = session.bundle.manifest.limits.pad_id
    members = [reference.rows[row] for row in rows]
    return Watched(outputs, padded_batch(members, pad, ("attention_mask", WORD_MAP)))

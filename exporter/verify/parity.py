"""Compare a written bundle with the torch model it comes from, exit by exit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from effbert.exporter.options import ExportOptions
from effbert.exporter.precision.lowering import Lowered
from effbert.exporter.rows.batching import rows_alone, session_batch, similar_lengths
from effbert.exporter.verify.agreement import measure_agreement, require_agreement
from effbert.exporter.verify.decisions import compare_decisions, compare_trials
from effbert.exporter.verify.oracle import PolicyOracle, Watched
from effbert.exporter.verify.tolerance import TIMES, Tolerance, fixed, scaled
from effbert.exporter.verify.torch_answers import Outputs, Reference
from effbert.runtime import Session
from effbert.runtime.bundle.manifest import Parity
from effbert.runtime.errors import ParityError

Answer = tuple[str, int, np.ndarray]  # of an output and a row, [exits, ...]
SURE = 1e-3  # logits this far apart have the same order in torch and in the segments


class Allowed(NamedTuple):
    """The user's `--atol`, or None, and else the share of the answers that rounding may take."""

    atol: float | None
    relative: float

    def of(self, answers: Outputs, exits: int) -> Tolerance:
        """Return the tolerance for these answers."""
        return (
            scaled(answers, exits, self.relative) if self.atol is None else fixed(self.atol, exits)
        )


@dataclass(frozen=True)
class Compared:
    """What torch expects of every row, and what the bundle answers, some rows twice."""

    exits: int
    expected: Outputs
    answers: Sequence[Answer]

    @property
    def found(self) -> Outputs:
        """The answers by output and row; empty where none was expected."""
        found: Outputs = {name: [np.empty(0)] * len(rows) for name, rows in self.expected.items()}
        for name, row, answer in self.answers:
            found[name][row] = answer
        return found

    @cached_property
    def worst(self) -> np.ndarray:
        """The largest difference of each exit."""
        worst = np.zeros(self.exits)
        for name, row, answer in self.answers:
            worst = np.maximum(worst, _difference(answer, self.expected[name][row]))
        return worst

    def beyond(self, tolerance: Tolerance) -> np.ndarray:
        """Tell which exits differ by more than that somewhere."""
        beyond = np.zeros(self.exits, bool)
        for name, row, answer in self.answers:
            expected = self.expected[name][row]
            near = np.abs(answer.astype(np.float64) - expected) <= tolerance.allowed(expected)
            beyond |= ~near.reshape(self.exits, -1).all(axis=1)
        return beyond


def verify(
    session: Session,
    reference: Reference,
    oracle: PolicyOracle | None,
    allowed: Allowed,
    exactly: Callable[[], Reference],
) -> Parity:
    """Check the outputs of every exit, padded and alone, and the exit decisions.

    Args:
        session: The bundle, in float32.
        reference: What torch says.
        oracle: The exit policy; None where the outputs are no logits.
        allowed: The difference allowed: by scale, or as the user says.
        exactly: What torch says in float64; only called where rounding may explain a difference.

    Raises:
        ParityError: An exit's outputs differ by more than is allowed, or a row leaves elsewhere
            than the policy says; names the first segment that differs.
    """
    compared = _compare(session, reference, oracle)
    tolerance = allowed.of(compared.expected, len(session.exits))
    beyond = compared.beyond(tolerance)
    if beyond.any() and allowed.atol is None:
        explained = _explained(compared, exactly(), oracle)
        if explained[beyond].all():
            tolerance = tolerance.widened(np.where(beyond, compared.worst, 0))
            beyond[:] = False
    _require_parity(session, compared.worst, beyond, tolerance)
    decisions = near = 0
    if oracle is not None and oracle.policy.knobs:
        decisions, near = compare_decisions(session, reference, compared.found, oracle, tolerance)
    trials, trials_near = compare_trials(
        session, reference, tolerance, exactly if allowed.atol is None else None
    )
    return Parity(
        atol=float(f"{tolerance.absolute.max():.3g}"),
        rows=len(reference.rows),
        max_abs_diff=_short(compared.worst),
        decisions=decisions + trials,
        decisions_near_threshold=near + trials_near,
    )


def verify_lowered(
    session: Session,
    reference: Reference,
    oracle: PolicyOracle | None,
    options: ExportOptions,
    lowered: Lowered,
) -> Parity:
    """Check a bundle of lower precision: how often it answers and decides as torch does.

    Raises:
        AgreementError: Too seldom; names the product that costs most.
        ParityError: An exit's outputs differ by more than `options.atol`, if that is not None.
    """
    compared = _compare(session, reference, oracle)
    if options.atol is not None:
        tolerance = fixed(options.atol, len(session.exits))
        _require_parity(session, compared.worst, compared.beyond(tolerance), tolerance)
    agreement = measure_agreement(session, reference, compared.found, oracle)
    require_agreement(agreement, options, lowered)
    return Parity(
        atol=options.atol,
        rows=len(reference.rows),
        max_abs_diff=_short(compared.worst),
        decisions=agreement.compared,
        decisions_near_threshold=0,
        same_answers=agreement.answers,
        same_decisions=agreement.decisions,
    )


def _compare(session: Session, reference: Reference, oracle: PolicyOracle | None) -> Compared:
    """Let every exit answer every row, beside others and a few alone."""
    count = len(reference.rows)
    expected = {
        name: [_expected(reference, name, row, oracle) for row in range(count)]
        for name in reference.answers
    }
    answers = []
    for chunk in [*similar_lengths(reference.rows), *rows_alone(reference.rows)]:
        outputs = session.run_exits(session_batch([reference.rows[i] for i in chunk], session))
        for name in reference.answers:
            for index, row in enumerate(chunk):
                if expected[name][row].size:
                    answer = _real(outputs[name][:, index], expected[name][row])
                    answers.append((name, row, answer))
    return Compared(len(session.exits), expected, answers)


def _explained(compared: Compared, exact: Reference, oracle: PolicyOracle | None) -> np.ndarray:
    """Tell at which exits the bundle is about as far from float64 as torch's float32 is."""
    ours = np.zeros(compared.exits)
    theirs = np.zeros(compared.exits)
    for name, row, answer in compared.answers:
        truth = _expected(exact, name, row, oracle)
        if not truth.size:
            continue
        ours = np.maximum(ours, _difference(answer, truth))
        theirs = np.maximum(theirs, _difference(compared.expected[name][row], truth))
    explained: np.ndarray = ours <= TIMES * theirs
    return explained


def worst_parity(parities: Sequence[Parity]) -> Parity:
    """Sum up the verification of all variants: their worst differences and all decisions."""
    by_exit = zip(*(parity.max_abs_diff for parity in parities), strict=True)
    return msgspec.structs.replace(
        parities[0],
        max_abs_diff=[max(map(float, differences)) for differences in by_exit],
        decisions=sum(parity.decisions for parity in parities),
        decisions_near_threshold=sum(parity.decisions_near_threshold for parity in parities),
        same_answers=_least([parity.same_answers for parity in parities]),
        same_decisions=_least([parity.same_decisions for parity in parities]),
    )


def _least(shares: Sequence[float | None]) -> float | None:
    return min((share for share in shares if share is not None), default=None)


def _short(worst: np.ndarray) -> list[int | float | Literal["inf", "-inf", "nan"]]:
    return [float(f"{value:.3g}") for value in worst]


def _expected(reference: Reference, name: str, row: int, oracle: PolicyOracle | None) -> np.ndarray:
    """Return what torch and the policy answer at each exit; empty where rounding decides a vote."""
    values = reference.outputs[name][row]
    if oracle is None or oracle.policy.answer is None or name != "logits":
        return values
    best = np.sort(values, axis=-1)
    if (best[..., -1] - best[..., -2]).min() < SURE:
        return np.empty(0)
    return oracle.answers(Watched({"logits": values[:, None]}))[:, 0]


def _real(answer: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Cut a token-level answer [exits, sequence, ...] to the row's real tokens."""
    return answer[tuple(slice(extent) for extent in expected.shape)]


def _difference(answer: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Largest absolute difference at each exit; anything not finite counts as infinite."""
    difference = np.abs(answer.astype(np.float64) - expected).reshape(len(expected), -1).max(axis=1)
    return np.where(np.isfinite(difference), difference, np.inf)


def _require_parity(
    session: Session, worst: np.ndarray, beyond: np.ndarray, tolerance: Tolerance
) -> None:
    wrong = np.flatnonzero(beyond)
    if len(wrong):
        first = session.exits[int(wrong[0])]
        usual = tolerance.absolute[wrong[0]]
        relative = f" and {tolerance.relative:g} of each number" if tolerance.relative else ""
        raise ParityError(
            f"{first.file} (exit after layer {first.layer}) differs from torch by "
            f"{worst[wrong[0]]:.3g}, more than {usual:.3g}{relative}; nothing was written. If that "
            "is good enough for you pass --atol, otherwise please report the model type."
        )

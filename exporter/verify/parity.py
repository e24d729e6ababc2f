"""Compare a written bundle with the torch model it comes from, exit by exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from effbert.exporter.options import ExportOptions
from effbert.exporter.precision.lowering import Lowered
from effbert.exporter.rows.batching import rows_alone, session_batch, similar_lengths
from effbert.exporter.verify.agreement import measure_agreement, require_agreement
from effbert.exporter.verify.decisions import compare_decisions, compare_trials
from effbert.exporter.verify.oracle import PolicyOracle, Watched
from effbert.exporter.verify.torch_answers import Outputs, Reference
from effbert.runtime import Session
from effbert.runtime.bundle.manifest import Parity
from effbert.runtime.errors import ParityError

SURE = 1e-3  # logits this far apart have the same order in torch and in the segments


def verify(
    session: Session, reference: Reference, oracle: PolicyOracle | None, atol: float
) -> Parity:
    """Check the outputs of every exit, padded and alone, and the exit decisions.

    Args:
        session: The bundle, in float32.
        reference: What torch says.
        oracle: The exit policy; None where the outputs are no logits.
        atol: Largest difference allowed.

    Raises:
        ParityError: An exit's outputs differ by more than `atol`, or a row leaves elsewhere than
            the policy says; names the first segment that differs.
    """
    found, worst = _answers(session, reference, oracle)
    _require_parity(session, worst, atol)
    decisions = near = 0
    if oracle is not None and oracle.policy.knobs:
        decisions, near = compare_decisions(session, reference, found, oracle, atol)
    trials, trials_near = compare_trials(session, reference, atol)
    return Parity(
        atol=atol,
        rows=len(reference.rows),
        max_abs_diff=_short(worst),
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
    found, worst = _answers(session, reference, oracle)
    if options.atol is not None:
        _require_parity(session, worst, options.atol)
    agreement = measure_agreement(session, reference, found, oracle)
    require_agreement(agreement, options, lowered)
    return Parity(
        atol=options.atol,
        rows=len(reference.rows),
        max_abs_diff=_short(worst),
        decisions=agreement.compared,
        decisions_near_threshold=0,
        same_answers=agreement.answers,
        same_decisions=agreement.decisions,
    )


def _answers(
    session: Session, reference: Reference, oracle: PolicyOracle | None
) -> tuple[Outputs, np.ndarray]:
    """Return what every exit answers, and the largest difference of each to torch."""
    chunks = [*similar_lengths(reference.rows), *rows_alone(reference.rows)]
    worst = np.zeros(len(session.exits))
    found: Outputs = {name: [np.empty(0)] * len(reference.rows) for name in reference.answers}
    for chunk in chunks:
        answers = session.run_exits(session_batch([reference.rows[i] for i in chunk], session))
        for name in reference.answers:
            for index, i in enumerate(chunk):
                expected = _expected(reference, name, i, oracle)
                if expected is None:
                    continue
                found[name][i] = _real(answers[name][:, index], expected)
                worst = np.maximum(worst, _difference(found[name][i], expected))
    return found, worst


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


def _expected(
    reference: Reference, name: str, row: int, oracle: PolicyOracle | None
) -> np.ndarray | None:
    """Return what torch and the policy answer at each exit; None where rounding decides a vote."""
    values = reference.outputs[name][row]
    if oracle is None or oracle.policy.answer is None or name != "logits":
        return values
    best = np.sort(values, axis=-1)
    if (best[..., -1] - best[..., -2]).min() < SURE:
        return None
    return oracle.answers(Watched({"logits": values[:, None]}))[:, 0]


def _real(answer: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Cut a token-level answer [exits, sequence, ...] to the row's real tokens."""
    return answer[tuple(slice(extent) for extent in expected.shape)]


def _difference(answer: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Largest absolute difference at each exit; anything not finite counts as infinite."""
    difference = np.abs(answer.astype(np.float64) - expected).reshape(len(expected), -1).max(axis=1)
    return np.where(np.isfinite(difference), difference, np.inf)


def _require_parity(session: Session, worst: np.ndarray, atol: float) -> None:
    wrong = np.flatnonzero(worst > atol)
    if len(wrong):
        first = session.exits[int(wrong[0])]
        raise ParityError(
            f"{first.file} (exit after layer {first.layer}) differs from torch by "
            f"{worst[wrong[0]]:.3g}, more than {atol:g}; nothing was written. If that is good "
            "enough for you pass --atol, otherwise please report the model type."
        )

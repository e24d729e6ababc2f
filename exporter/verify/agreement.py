"""How far a bundle of lower precision decides and answers as the torch model does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from effbert.exporter.options import ExportOptions
from effbert.exporter.precision.lowering import Lowered
from effbert.exporter.verify.decisions import runs_with_trials
from effbert.exporter.verify.oracle import PolicyOracle
from effbert.exporter.verify.torch_answers import Outputs, Reference
from effbert.runtime import Session
from effbert.runtime.errors import AgreementError


class Agreement(NamedTuple):
    """Shares of answers with the same largest number, and of rows that leave at the same exit.

    From 0 to 1, None where there are no classes to choose from, or no exits. `compared` decisions.
    """

    answers: float | None
    decisions: float | None
    compared: int = 0

    @property
    def least(self) -> float:
        """The smaller share."""
        return min((share for share in self[:2] if share is not None), default=1.0)


def measure_agreement(
    session: Session, reference: Reference, found: Outputs, oracle: PolicyOracle | None
) -> Agreement:
    """Compare the answers of every exit, and where rows leave at the same knob values.

    Args:
        session: The bundle.
        reference: What torch says.
        found: What every exit of the bundle says, as `Reference.outputs`.
        oracle: The exit policy; None where the outputs are no logits.
    """
    same = []
    if oracle is not None and oracle.policy.knobs:
        for run in runs_with_trials(session, reference, found, oracle):
            left, _ = oracle.decide(run.theirs, run.knobs)
            same.append(run.result.exit_index == left)
    decisions = np.concatenate(same) if same else np.empty(0)
    return Agreement(
        _same_answers(session, reference, found),
        float(decisions.mean()) if decisions.size else None,
        decisions.size,
    )


def require_agreement(agreement: Agreement, options: ExportOptions, lowered: Lowered) -> None:
    """Raise AgreementError if too few answers or decisions agree, naming what costs most."""
    if agreement.least >= options.min_agreement:
        return
    what = (
        f"--precision {options.precision}: only {100 * agreement.least:.1f} % of the "
        f"{'answers' if agreement.least == agreement.answers else 'exit decisions'} agree with "
        f"torch, less than {100 * options.min_agreement:g} %; nothing was written."
    )
    if lowered.losses:
        segment, product, error = lowered.losses[0]
        way_out = (
            f" {product} in {segment} loses most (an error of {100 * error:.0f} % of its output): "
            f"add --keep-float {product}, or --calibration FILE with texts of your own"
        )
    else:
        way_out = " Choose a higher precision"
    raise AgreementError(f"{what}{way_out}, or accept it with --min-agreement.")


def _same_answers(session: Session, reference: Reference, found: Outputs) -> float | None:
    manifest = session.bundle.manifest
    if manifest.problem in ("regression", "multi-label"):
        return None
    axis = 1 if manifest.task == "question-answering" else -1  # exits, tokens[, labels]
    same = [
        (ours.argmax(axis=axis) == theirs.argmax(axis=axis)).mean()
        for name in reference.answers
        for ours, theirs in zip(found[name], reference.outputs[name], strict=True)
        if ours.size
    ]
    return float(np.mean(same)) if same else None

"""Run a written bundle: compare it with torch, keep golden rows, fit temperatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from effbert.exporter.options import ExportOptions, path_of
from effbert.exporter.plan import Plan
from effbert.exporter.precision.lowering import Lowered
from effbert.exporter.rows.rows import random_rows, sample_rows
from effbert.exporter.verify.golden import golden_rows
from effbert.exporter.verify.oracle import PolicyOracle
from effbert.exporter.verify.parity import Allowed, verify, verify_lowered
from effbert.exporter.verify.temperature import fitted_temperatures
from effbert.exporter.verify.torch_answers import Reference
from effbert.runtime import Bundle, Session
from effbert.runtime.bundle.manifest import Golden, Parity
from effbert.runtime.bundle.variants import split_variants


@dataclass
class Findings:
    """What the variants of a bundle answered.

    Attributes:
        parities: One a variant; none where nothing was compared.
        golden: Known answers of every variant.
        temperatures: Of every exit, if they were asked for.
    """

    parities: list[Parity] = field(default_factory=list)
    golden: list[list[Golden]] = field(default_factory=list)
    temperatures: list[float] | None = None


def examine(
    bundle: Bundle,
    plan: Plan,
    references: Sequence[Reference],
    exactly: Callable[[], Sequence[Reference]],
    lowered: Sequence[Lowered],
    options: ExportOptions,
    say: Callable[[str], None],
) -> Findings:
    """Run every variant of a bundle.

    Args:
        bundle: Written, but for the findings in its manifest.
        plan: What was exported.
        references: What torch says of every model; none to compare nothing.
        exactly: The same in float64, asked only where rounding may explain a difference.
        lowered: What a lower precision did to every model.
        options: The user's.
        say: Hears what happens next.

    Raises:
        ParityError: The segments differ from torch.
        AgreementError: A lower precision changes too many answers or decisions.
        InputError: Temperatures cannot be fitted.
    """
    findings = Findings()
    # The golden rows are of the shipped sentences: those of the user may be private.
    limits = bundle.manifest.limits
    known = sample_rows(bundle) or random_rows(limits)
    for manifest, (_, model) in zip(split_variants(bundle.manifest), plan.variants, strict=True):
        with Session(Bundle(bundle.path, manifest), engine="onnxruntime") as session:
            if references:
                exact = partial(_one_of, exactly, model)
                findings.parities.append(
                    _compared(session, plan, references[model], exact, lowered[model], options)
                )
            findings.golden.append(golden_rows(session, known))
            labelled = path_of(options.fit_temperature)
            if labelled is not None and findings.temperatures is None:  # on the largest variant
                say("fitting temperatures")
                findings.temperatures = fitted_temperatures(session, labelled)
    return findings


def _one_of(exactly: Callable[[], Sequence[Reference]], model: int) -> Reference:
    return exactly()[model]


def _compared(
    session: Session,
    plan: Plan,
    reference: Reference,
    exactly: Callable[[], Reference],
    lowered: Lowered,
    options: ExportOptions,
) -> Parity:
    outputs = {tensor.name: tensor.axes for tensor in session.bundle.manifest.segments[0].outputs}
    axes = outputs.get("logits")
    oracle = None if axes is None else PolicyOracle(plan.policy, axes, options.opset)
    if options.precision != "fp32":
        return verify_lowered(session, reference, oracle, options, lowered)
    allowed = Allowed(options.atol, plan.description.atol)
    return verify(session, reference, oracle, allowed, exactly)

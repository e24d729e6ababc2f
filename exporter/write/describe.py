"""Describe built segments as the manifest of a bundle, and add what was found when they ran."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import msgspec

from effbert.exporter.plan import Plan
from effbert.exporter.segments import BATCH_INPUTS, BuiltModel
from effbert.exporter.verify.parity import worst_parity
from effbert.runtime.bundle.manifest import (
    FORMAT,
    VERSION,
    File,
    Golden,
    Input,
    Manifest,
    Parity,
    Policy,
    Precision,
    Variant,
)
from effbert.runtime.bundle.names import MASK

PRODUCERS = ("effbert", "torch", "transformers", "onnx-ir", "onnxruntime")


def describe_bundle(
    plan: Plan,
    built: Sequence[BuiltModel],
    opset: int,
    precision: str,
    files: Mapping[str, File],
) -> Manifest:
    """Describe a bundle whose segments have not run yet: it has no parity and no golden rows.

    Args:
        plan: What was decided.
        built: The segments of every model.
        opset: Of the segments.
        precision: Of the segments.
        files: Those written so far.
    """
    description, policy, tokenizer = plan.description, plan.policy, plan.tokenizer
    records = [[segment.record for segment in model.segments] for model in built]
    largest, *others = plan.variants
    declared = {tensor.name for record in records[largest.model] for tensor in record.inputs}
    missing: dict[str, Literal[0, 1]] = {"attention_mask": 1, "token_type_ids": 0}
    producer = {name: importlib.metadata.version(name) for name in PRODUCERS}
    return Manifest(
        format=FORMAT,
        version=VERSION,
        min_reader=VERSION,
        producer=producer | {"opset": str(opset)},
        source=plan.source,
        task=description.task,
        problem=description.problem,
        activation=plan.activation,
        labels=list(description.labels),
        limits=description.limits,
        padding_free=description.padding_free,
        tokenizer=tokenizer.record if tokenizer else None,
        inputs=[
            Input(name=name, dtype="int64", axes=["batch", "sequence"], missing=missing.get(name))
            for name in BATCH_INPUTS
            if name in declared or name == MASK  # which tells how long rows are
        ],
        outputs=list(description.outputs),
        states=list(policy.states),
        segments=records[largest.model],
        variants=[Variant(knobs=dict(knobs), segments=records[model]) for knobs, model in others],
        policy=Policy(name=policy.name, rule=policy.rule, paper=policy.paper),
        # With one exit nothing reads the knobs of the policy.
        knobs=[knob for knob in plan.knobs if knob.name in declared or knob.choices is not None],
        operating_points=[*plan.operating_points],
        golden=[],
        parity=None,
        files=dict(files),
        precision=cast("Precision", precision),
    )


def with_findings(
    manifest: Manifest,
    parities: Sequence[Parity],
    golden: Sequence[list[Golden]],
    temperatures: Sequence[float] | None,
    texts: int,
) -> Manifest:
    """Add what was found for each variant: parity, if it was measured, and golden rows.

    Args:
        manifest: Of `describe_bundle`.
        parities: One a variant, or none.
        golden: Rows of every variant.
        temperatures: The default of the knob `temperature`, one an exit; None to leave it.
        texts: How many the tokenizer was compared on.
    """
    knobs = [
        msgspec.structs.replace(knob, default=[*temperatures])
        if temperatures is not None and knob.name == "temperature"
        else knob
        for knob in manifest.knobs
    ]
    return msgspec.structs.replace(
        manifest,
        knobs=knobs,
        parity=msgspec.structs.replace(worst_parity(parities), texts=texts) if parities else None,
        golden=golden[0],
        variants=[
            msgspec.structs.replace(variant, golden=rows[:1])
            for variant, rows in zip(manifest.variants, golden[1:], strict=True)
        ],
    )

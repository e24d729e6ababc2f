"""Write a bundle's files: segments, tokenizer, model card and manifest, verified."""

from __future__ import annotations

import gc
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import onnx_ir as ir

from effbert.exporter.checkpoints.tokenizer import FoundTokenizer
from effbert.exporter.encoders.sizes import Variant
from effbert.exporter.models.exit_model import Description
from effbert.exporter.policies import Policy
from effbert.exporter.precision.lowering import (
    Lowered,
    PrecisionOptions,
    lower_variants,
)
from effbert.exporter.rows.rows import bundle_rows, random_rows, sample_texts
from effbert.exporter.segments import BATCH_INPUTS, BuiltSegment, build_segments
from effbert.exporter.verify.golden import golden_rows
from effbert.exporter.verify.oracle import PolicyOracle
from effbert.exporter.verify.parity import verify, verify_lowered, worst_parity
from effbert.exporter.verify.torch_answers import Reference, torch_reference
from effbert.exporter.write.atomic import BundleWriter, check_space, total_size
from effbert.exporter.write.card import model_card
from effbert.exporter.write.temperature import fitted_temperatures
from effbert.graph_passes.share import merge_weights, padded, share_weights
from effbert.runtime import Bundle, Session, Text, open_bundle
from effbert.runtime.bundle.manifest import (
    FORMAT,
    VERSION,
    Golden,
    Input,
    Knob,
    Manifest,
    Parity,
    Source,
)
from effbert.runtime.bundle.manifest import Policy as PolicyRecord
from effbert.runtime.bundle.manifest import Variant as VariantRecord
from effbert.runtime.bundle.names import MANIFEST_NAME, WEIGHTS_NAME
from effbert.runtime.bundle.parse import encode_manifest
from effbert.runtime.bundle.variants import split_variants

CARD_NAME = "README.md"
Built = dict[int, list[BuiltSegment]]  # by the id of the model
PRODUCERS = ("effbert", "torch", "transformers", "onnx-ir", "onnxruntime")


@dataclass
class Loaded:
    """A checkpoint in memory; `variants` goes once torch has said what the answers are.

    The first variant is the largest, which is often the only one.
    """

    source: Source
    description: Description
    policy: Policy
    tokenizer: FoundTokenizer | None
    variants: list[Variant]
    selectors: Sequence[Knob]


def write_bundle(
    writer: BundleWriter,
    loaded: Loaded,
    *,
    opset: int,
    precision: PrecisionOptions,
    verify_on: Sequence[Text] | None,
    atol: float | None,
    temperatures_from: Path | None,
    say: Callable[[str], None],
) -> Manifest:
    """Write everything but the final rename.

    Args:
        writer: the folder to fill.
        loaded: what to export; its `variants` are dropped on the way.
        opset: ONNX opset of the segments.
        precision: what weights are stored and products computed in.
        verify_on: texts to verify on, beside random rows; None to skip the verification.
        atol: largest difference to torch allowed; None is the model's own, below fp32 any.
        temperatures_from: labelled texts to fit the knob `temperature` on; None to leave it.
        say: hears what happens next.

    Raises:
        ExportError: the model cannot be traced or cut, or the segments differ from torch.
        InputError: an option of the precision does not fit the model.
        ResourceError: the disk is full or refuses a file.
    """
    if loaded.tokenizer is not None:
        writer.write(loaded.tokenizer.record.file, loaded.tokenizer.data)
    built = _build(loaded, opset, say)
    manifest = _manifest(loaded, _records(built, loaded), opset, writer)
    if precision.precision != "fp32":
        say(f"lowering the precision to {precision.precision}")
    models = [
        [segment.model for segment in built[id(variant.model)]] for variant in loaded.variants
    ]
    lowered = lower_variants(models, Bundle(writer.folder, manifest), precision)
    del models
    notes = (*loaded.description.notes, *lowered[0].notes(precision))
    loaded.description = replace(loaded.description, notes=notes)
    _write_segments(writer, built, say)
    del built
    gc.collect()  # graphs are full of cycles, which would keep their copies of the weights
    manifest = msgspec.structs.replace(
        manifest, precision=precision.precision, files=dict(writer.files)
    )
    writer.write(MANIFEST_NAME, encode_manifest(manifest))
    bundle = open_bundle(writer.folder)
    references: list[Reference] | None = None
    if verify_on is not None:
        rows = bundle_rows(bundle, verify_on) + random_rows(manifest.limits)
        say(f"running torch on {len(rows)} rows")
        references = [torch_reference(variant.model, rows) for variant in loaded.variants]
    del loaded.variants  # the segments need as much memory as they do
    gc.collect()
    say("running the segments")
    # The golden rows are of the shipped sentences: those of the user may be private.
    known = bundle_rows(bundle, sample_texts(None)) or random_rows(manifest.limits)
    parities, golden = list[Parity](), list[list[Golden]]()
    for place, variant in enumerate(split_variants(manifest)):
        with Session(Bundle(bundle.path, variant)) as session:
            if references is not None:
                parities.append(
                    _verified(session, references[place], loaded, atol, precision, lowered[place])
                )
            golden.append(golden_rows(session, known))
            if temperatures_from is not None and place == 0:
                say("fitting temperatures")
                manifest = _with_temperatures(
                    manifest, fitted_temperatures(session, temperatures_from)
                )
    manifest = _with_findings(manifest, parities, golden)
    writer.write(CARD_NAME, model_card(manifest, total_size(writer.files)).encode())
    manifest = msgspec.structs.replace(manifest, files=dict(writer.files))
    writer.write(MANIFEST_NAME, encode_manifest(manifest))
    return manifest


def _with_temperatures(manifest: Manifest, fitted: list[float]) -> Manifest:
    knobs = [
        msgspec.structs.replace(knob, default=[*fitted]) if knob.name == "temperature" else knob
        for knob in manifest.knobs
    ]
    return msgspec.structs.replace(manifest, knobs=knobs)


def _with_findings(
    manifest: Manifest, parities: Sequence[Parity], golden: Sequence[list[Golden]]
) -> Manifest:
    """Add what was found for each variant: parity, if it was measured, and golden rows."""
    return msgspec.structs.replace(
        manifest,
        parity=worst_parity(parities) if parities else None,
        golden=golden[0],
        variants=[
            msgspec.structs.replace(variant, golden=rows[:1])
            for variant, rows in zip(manifest.variants, golden[1:], strict=True)
        ],
    )


def _verified(
    session: Session,
    reference: Reference,
    loaded: Loaded,
    atol: float | None,
    precision: PrecisionOptions,
    lowered: Lowered,
) -> Parity:
    manifest = session.bundle.manifest
    opset = int(manifest.producer["opset"])
    axes = {tensor.name: tensor.axes for tensor in manifest.segments[0].outputs}.get("logits")
    oracle = None if axes is None else PolicyOracle(loaded.policy, axes, opset)
    if precision.precision != "fp32":
        return verify_lowered(session, reference, oracle, precision, lowered, atol)
    return verify(session, reference, oracle, atol or loaded.description.atol)


def _weight_bytes(models: Sequence[ir.Model]) -> int:
    """Sum the bytes of all weights, those that several segments share once."""
    values = (value for model in models for value in model.graph.initializers.values())
    tensors = {id(v.const_value): v.const_value for v in values if v.const_value is not None}
    return sum(tensor.nbytes for tensor in tensors.values())


def _write_segments(writer: BundleWriter, built: Built, say: Callable[[str], None]) -> None:
    """Write the segments, and the weights that they share."""
    models = [segment.model for segments in built.values() for segment in segments]
    check_space(writer.target, _weight_bytes(models))
    say("writing")
    shared = share_weights(models, WEIGHTS_NAME)
    if shared:
        parts: list[bytes] = []
        for tensor in shared:
            data = tensor.tobytes()
            parts += [data, bytes(padded(len(data)) - len(data))]
        writer.write(WEIGHTS_NAME, *parts)
    for segments in built.values():
        for segment in segments:
            writer.write(segment.record.file, ir.to_proto(segment.model).SerializeToString())


def _records(built: Built, loaded: Loaded) -> list[VariantRecord]:
    return [
        VariantRecord(
            knobs=dict(variant.knobs),
            segments=[segment.record for segment in built[id(variant.model)]],
        )
        for variant in loaded.variants
    ]


def _build(loaded: Loaded, opset: int, say: Callable[[str], None]) -> Built:
    """Build the segments of each model; variants may share one."""
    built: Built = {}
    known: dict[Any, ir.TensorProtocol] = {}
    for place, (knobs, model) in enumerate(loaded.variants):
        if id(model) in built:
            continue
        size = "-".join(f"{name}-{value}" for name, value in knobs.items()) if place else ""
        say(f"tracing and cutting {size}".rstrip())
        segments = build_segments(model, loaded.policy, opset, f"{size}-" if size else "")
        if len(loaded.variants) > 1:
            merge_weights([segment.model for segment in segments], known)
        built[id(model)] = segments
    return built


def _manifest(
    loaded: Loaded,
    variants: Sequence[VariantRecord],
    opset: int,
    writer: BundleWriter,
) -> Manifest:
    """Describe the segments; golden rows and parity are added when they have run."""
    description, policy, tokenizer = loaded.description, loaded.policy, loaded.tokenizer
    records = variants[0].segments
    declared = {tensor.name: tensor for record in records for tensor in record.inputs}
    missing: dict[str, Literal[0, 1]] = {"attention_mask": 1, "token_type_ids": 0}
    producer = {name: importlib.metadata.version(name) for name in PRODUCERS}
    return Manifest(
        format=FORMAT,
        version=VERSION,
        min_reader=VERSION,
        producer=producer | {"opset": str(opset)},
        source=loaded.source,
        task=description.task,
        problem=description.problem,
        labels=list(description.labels),
        limits=description.limits,
        padding_free=description.padding_free,
        tokenizer=tokenizer.record if tokenizer else None,
        inputs=[
            Input(name=name, dtype="int64", axes=["batch", "sequence"], missing=missing.get(name))
            for name in BATCH_INPUTS
            if name in declared or name == "attention_mask"  # which tells how long rows are
        ],
        outputs=list(description.outputs),
        states=list(policy.states),
        segments=records,
        variants=[*variants[1:]],
        policy=PolicyRecord(name=policy.name, rule=policy.rule, paper=policy.paper),
        knobs=[  # one exit needs none of the policy's
            *(knob for knob in (*policy.knobs, *description.knobs) if knob.name in declared),
            *loaded.selectors,
        ],
        operating_points=[*description.operating_points],
        golden=[],
        parity=None,
        files=dict(writer.files),
    )

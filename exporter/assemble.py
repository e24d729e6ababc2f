"""Write a bundle's files: segments, tokenizer, model card and manifest, verified."""

from __future__ import annotations

import gc
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import onnx_ir as ir

from effbert.exporter.card import model_card
from effbert.exporter.golden import golden_rows
from effbert.exporter.model import Description, ExitModel
from effbert.exporter.oracle import PolicyOracle
from effbert.exporter.policies import Policy
from effbert.exporter.reference import Reference, torch_reference
from effbert.exporter.rows import Row, fit_texts, random_rows, read_texts, text_rows
from effbert.exporter.segments import BATCH_INPUTS, build_segments
from effbert.exporter.temperature import fitted_temperatures
from effbert.exporter.tokenizer import FoundTokenizer
from effbert.exporter.verify import verify
from effbert.exporter.write import BundleWriter, check_space, total_size
from effbert.graph_passes.share import padded, share_weights
from effbert.runtime import Bundle, Session, open_bundle
from effbert.runtime.manifest import (
    FORMAT,
    MANIFEST_NAME,
    VERSION,
    WEIGHTS_NAME,
    Input,
    Knob,
    Manifest,
    Parity,
    Segment,
    Source,
    encode_manifest,
)
from effbert.runtime.manifest import Policy as PolicyRecord
from effbert.runtime.tokenization import Text, TextEncoder

CARD_NAME = "README.md"
PRODUCERS = ("effbert", "torch", "transformers", "onnx-ir", "onnxruntime")


@dataclass
class Loaded:
    """A checkpoint in memory; `model` is deleted once torch has said what the answers are."""

    source: Source
    description: Description
    policy: Policy
    tokenizer: FoundTokenizer | None
    model: ExitModel


def write_bundle(
    writer: BundleWriter,
    loaded: Loaded,
    *,
    opset: int,
    verify_on: Sequence[Text] | None,
    atol: float,
    temperatures_from: Path | None,
    say: Callable[[str], None],
) -> Manifest:
    """Write everything but the final rename.

    Args:
        writer: the folder to fill.
        loaded: what to export; its `model` is dropped on the way.
        opset: ONNX opset of the segments.
        verify_on: texts to verify on, beside random rows; None to skip the verification.
        atol: largest difference to torch allowed.
        temperatures_from: labelled texts to fit the knob `temperature` on; None to leave it.
        say: hears what happens next.

    Raises:
        ExportError: the model cannot be traced or cut, or the segments differ from torch.
        ResourceError: the disk is full or refuses a file.
    """
    records = _write_segments(writer, loaded, opset, say)
    gc.collect()  # graphs are full of cycles, which would keep their copies of the weights
    if loaded.tokenizer is not None:
        writer.write(loaded.tokenizer.record.file, loaded.tokenizer.data)
    manifest = _manifest(loaded, records, opset, writer)
    writer.write(MANIFEST_NAME, encode_manifest(manifest))
    bundle = open_bundle(writer.folder)
    reference = None
    if verify_on is not None:
        rows = _text_rows(bundle, verify_on) + random_rows(manifest.limits)
        say(f"running torch on {len(rows)} rows")
        reference = torch_reference(loaded.model, rows)
    del loaded.model  # the segments need as much memory as it does
    gc.collect()
    say("running the segments")
    # The golden rows are of the shipped sentences: those of the user may be private.
    known = _text_rows(bundle, read_texts(None)) or random_rows(manifest.limits)
    with Session(bundle) as session:
        parity = None if reference is None else _verified(session, reference, loaded.policy, atol)
        golden = golden_rows(session, known)
        knobs = manifest.knobs
        if temperatures_from is not None:
            say("fitting temperatures")
            knobs = _with_temperatures(knobs, fitted_temperatures(session, temperatures_from))
    manifest = msgspec.structs.replace(manifest, parity=parity, golden=golden, knobs=knobs)
    writer.write(CARD_NAME, model_card(manifest, total_size(writer.files)).encode())
    manifest = msgspec.structs.replace(manifest, files=dict(writer.files))
    writer.write(MANIFEST_NAME, encode_manifest(manifest))
    return manifest


def _with_temperatures(knobs: list[Knob], fitted: list[float]) -> list[Knob]:
    return [
        msgspec.structs.replace(knob, default=[*fitted]) if knob.name == "temperature" else knob
        for knob in knobs
    ]


def _verified(session: Session, reference: Reference, policy: Policy, atol: float) -> Parity:
    manifest = session.bundle.manifest
    opset = int(manifest.producer["opset"])
    axes = {tensor.name: tensor.axes for tensor in manifest.segments[0].outputs}.get("logits")
    oracle = None if axes is None else PolicyOracle(policy, axes, opset)
    return verify(session, reference, oracle, atol)


def _text_rows(bundle: Bundle, texts: Sequence[Text]) -> list[Row]:
    """Tokenize texts in the form the task takes; none without a tokenizer."""
    manifest = bundle.manifest
    if manifest.tokenizer is None:
        return []
    return text_rows(fit_texts(texts, manifest.task), TextEncoder(bundle), manifest.limits)


def _weight_bytes(models: Sequence[ir.Model]) -> int:
    """Sum the bytes of all weights, those that several segments share once."""
    values = (value for model in models for value in model.graph.initializers.values())
    tensors = {id(v.const_value): v.const_value for v in values if v.const_value is not None}
    return sum(tensor.nbytes for tensor in tensors.values())


def _write_segments(
    writer: BundleWriter, loaded: Loaded, opset: int, say: Callable[[str], None]
) -> list[Segment]:
    """Build the segments and write them; the graphs are released with the return."""
    say("tracing and cutting")
    built = build_segments(loaded.model, loaded.policy, opset)
    check_space(writer.target, _weight_bytes([segment.model for segment in built]))
    say("writing")
    shared = share_weights([segment.model for segment in built], WEIGHTS_NAME)
    if shared:
        parts: list[bytes] = []
        for tensor in shared:
            data = tensor.tobytes()
            parts += [data, bytes(padded(len(data)) - len(data))]
        writer.write(WEIGHTS_NAME, *parts)
    for segment in built:
        writer.write(segment.record.file, ir.to_proto(segment.model).SerializeToString())
    return [segment.record for segment in built]


def _manifest(
    loaded: Loaded, records: Sequence[Segment], opset: int, writer: BundleWriter
) -> Manifest:
    """Describe the segments; golden rows and parity are added when they have run."""
    description, policy, tokenizer = loaded.description, loaded.policy, loaded.tokenizer
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
        segments=list(records),
        policy=PolicyRecord(name=policy.name, rule=policy.rule, paper=policy.paper),
        knobs=[  # one exit needs none
            knob for knob in (*policy.knobs, *description.knobs) if knob.name in declared
        ],
        operating_points=[],
        golden=[],
        parity=None,
        files=dict(writer.files),
    )

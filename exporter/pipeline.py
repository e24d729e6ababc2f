"""The export itself: detect, load, trace, cut, write, verify, publish."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import msgspec
import onnx_ir as ir

from effbert.exporter.card import model_card
from effbert.exporter.checkpoint import Checkpoint, open_checkpoint
from effbert.exporter.formats import Format, LoadOptions, choose_format
from effbert.exporter.golden import golden_rows
from effbert.exporter.model import Description, ExitModel
from effbert.exporter.oracle import PolicyOracle
from effbert.exporter.policies import Policy
from effbert.exporter.rows import Row, fit_texts, random_rows, read_texts, text_rows
from effbert.exporter.rules import choose_policy, with_defaults
from effbert.exporter.segments import build_segments
from effbert.exporter.tokenizer import FoundTokenizer, find_tokenizer
from effbert.exporter.verify import Reference, torch_reference, verify
from effbert.exporter.write import BundleWriter, check_space, check_target, total_size, writing
from effbert.graph_passes.share import padded, share_weights
from effbert.runtime import Bundle, Session, open_bundle
from effbert.runtime.errors import InputError
from effbert.runtime.manifest import (
    FORMAT,
    MANIFEST_NAME,
    VERSION,
    WEIGHTS_NAME,
    Input,
    Manifest,
    Segment,
    Source,
    encode_manifest,
)
from effbert.runtime.manifest import Policy as PolicyRecord
from effbert.runtime.tokenization import Text, TextEncoder

CARD_NAME = "README.md"
OPSETS = range(18, 24)
TASKS = ("auto", "text-classification", "token-classification", "question-answering")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """The options of `export`; see there."""

    format: str = "auto"
    task: str = "auto"
    exits: str | Sequence[int] = "all"
    policy: str = "auto"
    knobs: Mapping[str, float | int] = field(default_factory=dict)
    opset: int = 20
    verify: bool = True
    atol: float | None = None
    samples: Path | None = None
    tokenizer: Path | None = None
    dry_run: bool = False
    force: bool = False


@dataclass(frozen=True)
class Report:
    """What was, or with `dry_run` would be, exported. `size` is in bytes, None before writing."""

    bundle: Path
    format: str
    paper: str
    description: Description
    policy: Policy
    manifest: Manifest | None
    size: int | None
    tokenizer: bool
    seconds: float


def run_export(
    checkpoint: str | Path, bundle: str | Path, options: Options, say: Progress
) -> Report:
    """Export; see `effbert.exporter.export`. `say` hears what happens next, one phrase a step."""
    started = time.perf_counter()
    target = Path(bundle).expanduser().absolute()
    _check(options)
    if not options.dry_run:
        check_target(target, options.force)
    texts = read_texts(options.samples)
    say("opening the checkpoint")
    source = open_checkpoint(checkpoint)
    family = choose_format(options.format, source.name, source.shapes, source.config)
    say(f"loading ({family.name})")
    model = family.load(source, LoadOptions(options.task, _layers(options.exits))).eval()
    description = model.description
    policy = with_defaults(choose_policy(options.policy, description), options.knobs)
    tokenizer = find_tokenizer(
        options.tokenizer or source.folder, description.architecture, description.limits
    )
    if options.tokenizer and tokenizer is None:
        raise InputError(f"{options.tokenizer} holds no tokenizer; expected tokenizer.json in it.")
    report = Report(
        bundle=target,
        format=family.name,
        paper=family.paper,
        description=description,
        policy=policy,
        manifest=None,
        size=None,
        tokenizer=tokenizer is not None,
        seconds=time.perf_counter() - started,
    )
    if options.dry_run:
        return report
    with writing(target) as writer:
        records = _write_segments(writer, model, policy, options.opset, say)
        if tokenizer is not None:
            writer.write(tokenizer.record.file, tokenizer.data)
        manifest = _manifest(
            source, family, description, policy, records, tokenizer, options, writer
        )
        writer.write(MANIFEST_NAME, encode_manifest(manifest))
        rows = _rows(open_bundle(writer.folder), texts)
        say(f"running torch on {len(rows)} rows")
        reference = torch_reference(model, rows) if options.verify else None
        del model, source  # the torch weights are not needed any more: memory for the segments
        say("verifying the segments")
        atol = options.atol or description.atol
        manifest = _finish(writer, manifest, policy, rows, reference, atol)
        writer.publish(options.force)
    return replace(
        report,
        manifest=manifest,
        size=total_size(manifest.files),
        seconds=time.perf_counter() - started,
    )


def _check(options: Options) -> None:
    if options.task not in TASKS:
        raise InputError(f"There is no task {options.task}; choose one of {', '.join(TASKS)}.")
    if options.opset not in OPSETS:
        raise InputError(
            f"Opset {options.opset} is not supported; choose {OPSETS[0]}..{OPSETS[-1]}."
        )
    if options.atol is not None and not 0 < options.atol < float("inf"):
        raise InputError(f"The tolerance must be positive, got {options.atol}.")


def _layers(exits: str | Sequence[int]) -> tuple[int, ...] | None:
    if exits == "all":
        return None
    parts = exits.split(",") if isinstance(exits, str) else exits
    try:
        layers = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        layers = ()
    if not layers or min(layers) < 1:
        raise InputError(f"Exits are `all` or 1-based layers such as 2,4,6; got {exits!r:.40}.")
    return layers


def _weight_bytes(models: Sequence[ir.Model]) -> int:
    """Sum the bytes of all weights, those that several segments share once."""
    values = (value for model in models for value in model.graph.initializers.values())
    tensors = {id(v.const_value): v.const_value for v in values if v.const_value is not None}
    return sum(tensor.nbytes for tensor in tensors.values())


def _write_segments(
    writer: BundleWriter, model: ExitModel, policy: Policy, opset: int, say: Progress
) -> list[Segment]:
    """Build the segments and write them; the graphs are released with the return."""
    say("tracing and cutting")
    built = build_segments(model, policy, opset)
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
    source: Checkpoint,
    family: Format,
    description: Description,
    policy: Policy,
    records: Sequence[Segment],
    tokenizer: FoundTokenizer | None,
    options: Options,
    writer: BundleWriter,
) -> Manifest:
    declared = {tensor.name: tensor for record in records for tensor in record.inputs}
    missing: dict[str, Literal[0, 1]] = {"attention_mask": 1, "token_type_ids": 0}
    return Manifest(
        format=FORMAT,
        version=VERSION,
        min_reader=VERSION,
        producer=_producer(options.opset),
        source=Source(
            name=source.name,
            sha256=source.sha256,
            format=family.name,
            architecture=description.architecture,
            paper=description.paper,
        ),
        task=description.task,
        problem=description.problem,
        labels=list(description.labels),
        limits=description.limits,
        padding_free=description.padding_free,
        tokenizer=tokenizer.record if tokenizer else None,
        inputs=[
            Input(name=name, dtype="int64", axes=["batch", "sequence"], missing=missing.get(name))
            for name in description.inputs
            if name in declared or name == "attention_mask"  # which tells how long rows are
        ],
        outputs=list(description.outputs),
        states=list(policy.states),
        segments=list(records),
        policy=PolicyRecord(name=policy.name, rule=policy.rule, paper=policy.paper),
        knobs=list(policy.knobs),
        operating_points=[],
        golden=[],
        parity=None,
        files=dict(writer.files),
    )


def _producer(opset: int) -> dict[str, str]:
    names = ("effbert", "torch", "transformers", "onnx-ir", "onnxruntime")
    versions = {name: importlib.metadata.version(name) for name in names}
    return versions | {"opset": str(opset)}


def _rows(bundle: Bundle, texts: Sequence[Text]) -> list[Row]:
    """Rows to verify on: the texts, where the bundle has a tokenizer, then random token ids."""
    manifest = bundle.manifest
    rows = random_rows(manifest.limits)
    if manifest.tokenizer is None:
        return rows
    return text_rows(fit_texts(texts, manifest.task), TextEncoder(bundle), manifest.limits) + rows


def _finish(
    writer: BundleWriter,
    manifest: Manifest,
    policy: Policy,
    rows: Sequence[Row],
    reference: Reference | None,
    atol: float,
) -> Manifest:
    """Run the written segments: verify them, add golden rows, parity and the model card."""
    with Session(writer.folder) as session:
        parity = None
        if reference is not None:
            opset = int(manifest.producer["opset"])
            oracle = PolicyOracle(policy, max(1, len(manifest.labels)), opset)
            parity = verify(session, reference, oracle, atol)
        golden = golden_rows(session, rows)
    manifest = msgspec.structs.replace(manifest, parity=parity, golden=golden)
    writer.write(CARD_NAME, model_card(manifest, total_size(writer.files)).encode())
    manifest = msgspec.structs.replace(manifest, files=dict(writer.files))
    writer.write(MANIFEST_NAME, encode_manifest(manifest))
    return manifest

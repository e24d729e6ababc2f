"""The export: open, recognise, plan, trace, cut, attach, lower, write, verify, publish."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import msgspec

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.exits.auto import with_chosen_exits
from effbert.exporter.formats.recognise import recognise
from effbert.exporter.models.exit_model import Description, ExitModel
from effbert.exporter.options import ExportOptions, path_of
from effbert.exporter.plan import Plan, make_plan
from effbert.exporter.policies.policy import Policy
from effbert.exporter.precision.lowering import Lowered, lower_models, lowering_notes
from effbert.exporter.rows.rows import (
    bundle_rows,
    file_texts,
    random_rows,
    sample_rows,
    shipped_texts,
)
from effbert.exporter.segments import BuiltModel, build_models
from effbert.exporter.verify.findings import examine
from effbert.exporter.verify.same_tokens import compare_tokenizers
from effbert.exporter.verify.torch_answers import Reference, torch_reference
from effbert.exporter.write.atomic import (
    BundleWriter,
    check_target,
    sweep,
    total_size,
    writing,
)
from effbert.exporter.write.card import model_card
from effbert.exporter.write.describe import describe_bundle, with_findings
from effbert.exporter.write.passes import PassReport, report_passes
from effbert.exporter.write.segment_files import write_segments
from effbert.graph_passes.integer_products import arrange_rounding
from effbert.runtime import Bundle, Placement, Text
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.bundle.parse import encode_manifest, parse_manifest
from effbert.runtime.bundle.variants import split_variants

CARD_NAME = "README.md"
MOST_TEXTS = 512  # to verify on
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """What was, or with `dry_run` would be, exported.

    Attributes:
        bundle: The folder.
        plan: What was decided before anything was traced.
        notes: Sentences for the user.
        seconds: How long it took.
        manifest: None before writing.
        size: In bytes, None before writing.
        passes: What the graph passes did to the largest variant; None before tracing.
        placement: How the exits were chosen; None if the user chose them.
    """

    bundle: Path
    plan: Plan
    notes: tuple[str, ...]
    seconds: float
    manifest: Manifest | None = None
    size: int | None = None
    passes: PassReport | None = None
    placement: Placement | None = None

    @property
    def description(self) -> Description:
        """What the largest model is."""
        return self.plan.description

    @property
    def policy(self) -> Policy:
        """The exit policy, with the default values of its knobs."""
        return self.plan.policy

    @property
    def tokenizer(self) -> bool:
        """Whether the bundle answers texts."""
        return self.plan.tokenizer is not None


def run_export(checkpoint: str, bundle: Path, options: ExportOptions, say: Progress) -> Report:
    """Export; see `effbert.exporter.export`. `say` hears what happens next, one phrase a step."""
    started = time.perf_counter()
    target = bundle.expanduser().absolute()
    options.check()
    if not options.dry_run:
        sweep(target)
        check_target(target, options.force)
    placement = None
    if options.exits == "auto":
        options, placement = with_chosen_exits(options, partial(_try_out, checkpoint, say), say)
    samples = path_of(options.samples)
    texts = None if samples is None else file_texts(samples)[:MOST_TEXTS]
    say("opening the checkpoint")
    opened = open_checkpoint(checkpoint, options.revision)
    opened, family = recognise(options.format, opened)
    say(f"loading ({family.name})")
    models, plan = make_plan(opened, family, options)
    asked, quantized = options, plan.description.precision != "fp32"
    if quantized:  # from here on as if that precision had been asked for
        options = replace(options, precision=plan.description.precision)
    texts_compared = compare_tokenizers(plan, texts or shipped_texts()) if options.verify else 0
    del opened  # and with it the tensors of files that were read whole
    if options.dry_run:
        return Report(target, plan, plan.notes, time.perf_counter() - started)
    with writing(target) as writer:
        if plan.tokenizer is not None:
            writer.write(plan.tokenizer.record.file, plan.tokenizer.data)
        built = build_models(models, plan, options.opset, say)
        lowered = _lower(writer, plan, built, options, say)
        say("writing")
        write_segments(writer, built)
        unfinished = _described(writer, plan, built, options)
        passes = report_passes(built[0], lowered[0])
        del built
        gc.collect()  # graphs are full of cycles, which would keep their copies of the weights
        references = _ask_torch(models, unfinished, texts, say) if options.verify else []
        models.clear()  # the segments need as much memory as they do
        gc.collect()
        say("running the segments")

        @cache
        def exactly() -> list[Reference]:
            say("running torch in float64")
            anew = open_checkpoint(checkpoint, asked.revision)
            again, _ = make_plan(*recognise(asked.format, anew), asked)
            return [
                torch_reference(model, reference.rows, exactly=True)
                for model, reference in zip(again, references, strict=True)
            ]

        findings = examine(unfinished, plan, references, exactly, lowered, options, say)
        manifest = _finish(
            writer,
            with_findings(
                unfinished.manifest,
                findings.parities,
                findings.golden,
                findings.temperatures,
                texts_compared,
            ),
        )
        writer.publish(options.force)
    return Report(
        bundle=target,
        plan=plan,
        notes=(*plan.notes, *(() if quantized else lowering_notes(lowered[0], options))),
        seconds=time.perf_counter() - started,
        manifest=manifest,
        size=total_size(manifest.files),
        passes=passes,
        placement=placement,
    )


def _try_out(
    checkpoint: str, say: Progress, folder: Path, options: ExportOptions
) -> tuple[int, ...]:
    """Export into a folder that is looked at and thrown away; returns the layers with exits."""
    return run_export(checkpoint, folder, options, say).description.layers


def _lower(
    writer: BundleWriter,
    plan: Plan,
    built: Sequence[BuiltModel],
    options: ExportOptions,
    say: Progress,
) -> list[Lowered]:
    """Give the segments the precision asked for, in place."""
    if options.precision == "fp32":
        return [Lowered() for _ in built]
    if plan.description.precision != "fp32":
        return [Lowered(products=[*map(arrange_rounding, model.graphs)]) for model in built]
    say(f"lowering the precision to {options.precision}")
    bundle = _described(writer, plan, built, options)
    variants = [*split_variants(bundle.manifest)]
    of_models = {model: variants[index] for index, (_, model) in enumerate(plan.variants)}
    manifests = [of_models[model] for model in range(len(built))]
    return lower_models([model.graphs for model in built], manifests, bundle, options)


def _described(
    writer: BundleWriter, plan: Plan, built: Sequence[BuiltModel], options: ExportOptions
) -> Bundle:
    """Return the bundle with the files written so far, before anything of it has run."""
    manifest = describe_bundle(plan, built, options.opset, options.precision, writer.files)
    return Bundle(writer.folder, manifest)


def _ask_torch(
    models: Sequence[ExitModel], bundle: Bundle, texts: Sequence[Text] | None, say: Progress
) -> list[Reference]:
    """Ask torch for its answers to every row, of the user's texts or ours, for each model."""
    rows = sample_rows(bundle) if texts is None else bundle_rows(bundle, texts)
    rows += random_rows(bundle.manifest.limits)
    say(f"running torch on {len(rows)} rows")
    return [torch_reference(model, rows) for model in models]


def _finish(writer: BundleWriter, manifest: Manifest) -> Manifest:
    """Write the model card and the manifest, which any reader then accepts."""
    writer.write(CARD_NAME, model_card(manifest, total_size(writer.files)).encode())
    manifest = msgspec.structs.replace(manifest, files=dict(writer.files))
    data = encode_manifest(manifest)
    parse_manifest(data)
    writer.write(MANIFEST_NAME, data)
    return manifest

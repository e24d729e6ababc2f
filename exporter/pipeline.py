"""The export itself: detect, load, write, verify, publish."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.checkpoints.length_store import with_store
from effbert.exporter.checkpoints.tokenizer import find_tokenizer
from effbert.exporter.encoders.length_adaptive import LengthOptions, make_length_adaptive
from effbert.exporter.encoders.sizes import Sizes, cut_variants, selector_knobs
from effbert.exporter.formats import choose_format
from effbert.exporter.models.exit_model import Description
from effbert.exporter.models.load_options import LoadOptions
from effbert.exporter.policies import Policy
from effbert.exporter.policies.choice import choose_policy, with_defaults, with_note
from effbert.exporter.precision.lowering import PrecisionOptions
from effbert.exporter.rows.rows import sample_texts
from effbert.exporter.write.assemble import Loaded, write_bundle
from effbert.exporter.write.atomic import check_target, sweep, total_size, writing
from effbert.runtime.bundle.manifest import Knob, Manifest, Source
from effbert.runtime.errors import InputError

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
    knobs: Mapping[str, Any] = field(default_factory=dict)
    last_highway: bool | None = None
    layers: str | Sequence[int] | None = None
    widths: Sizes | None = None
    depths: Sizes | None = None
    opset: int = 23
    verify: bool = True
    atol: float | None = None
    samples: Path | None = None
    fit_temperature: Path | None = None
    lengths: LengthOptions | None = None
    precision: PrecisionOptions = field(default_factory=PrecisionOptions)
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
    selectors: Sequence[Knob]
    tokenizer: bool
    manifest: Manifest | None
    size: int | None
    seconds: float


def run_export(
    checkpoint: str | Path, bundle: str | Path, options: Options, say: Progress
) -> Report:
    """Export; see `effbert.exporter.export`. `say` hears what happens next, one phrase a step."""
    started = time.perf_counter()
    target = Path(bundle).expanduser().absolute()
    _check(options)
    if not options.dry_run:
        sweep(target)
        check_target(target, options.force)
    texts = sample_texts(options.samples)
    loaded = _load(checkpoint, options, say)
    description, manifest = loaded.description, None
    if not options.dry_run:
        with writing(target) as writer:
            manifest = write_bundle(
                writer,
                loaded,
                opset=options.opset,
                verify_on=texts if options.verify else None,
                precision=options.precision,
                atol=options.atol,
                temperatures_from=options.fit_temperature,
                say=say,
            )
            writer.publish(options.force)
    return Report(
        bundle=target,
        format=description.format,
        paper=description.paper,
        description=loaded.description,
        policy=loaded.policy,
        selectors=loaded.selectors,
        tokenizer=loaded.tokenizer is not None,
        manifest=manifest,
        size=total_size(manifest.files) if manifest else None,
        seconds=time.perf_counter() - started,
    )


def _load(checkpoint: str | Path, options: Options, say: Progress) -> Loaded:
    """Recognise the checkpoint and build its torch model, policy and tokenizer."""
    say("opening the checkpoint")
    opened = open_checkpoint(checkpoint)
    family = choose_format(options.format, opened.name, opened.shapes, opened.config)
    if options.layers is not None and not family.skips_layers:
        raise InputError(
            f"{opened.name} is a {family.name} checkpoint, whose exits belong to their layers; "
            "leave --layers out and choose among the exits with --exits."
        )
    if options.last_highway is not None and not family.last_highway:
        raise InputError(
            f"{opened.name} is a {family.name} checkpoint, which has no highway after its last "
            "layer; leave --last-highway out."
        )
    say(f"loading ({family.name})")
    wanted = LoadOptions(
        options.task,
        _layers(options.exits),
        options.policy,
        options.last_highway,
        options.layers,
    )
    model = family.load(opened, wanted).eval()
    lengths = family.lengths(opened, options.lengths)
    if lengths is not None:
        model = make_length_adaptive(model, lengths)
    model.description = with_store(model.description, opened.folder, lengths)
    variants = cut_variants(model, options.widths, options.depths)
    model = variants[0].model
    policy = choose_policy(options.policy, model.description)
    noted = with_note(model.description, policy)
    description, policy = with_defaults(noted, policy, options.knobs)
    model.description = description
    folder = options.tokenizer or opened.folder
    tokenizer = find_tokenizer(folder, description.architecture, description.limits)
    if options.tokenizer and tokenizer is None:
        raise InputError(f"{options.tokenizer} holds no tokenizer; expected tokenizer.json in it.")
    source = Source(
        name=opened.name,
        sha256=opened.sha256,
        format=description.format,
        architecture=description.architecture,
        paper=description.paper,
    )
    selectors = selector_knobs(variants)
    return Loaded(source, description, policy, tokenizer, variants, selectors)


def _check(options: Options) -> None:
    if options.task not in TASKS:
        raise InputError(f"There is no task {options.task}; choose one of {', '.join(TASKS)}.")
    if options.opset not in OPSETS:
        raise InputError(
            f"Opset {options.opset} is not supported; choose {OPSETS[0]}..{OPSETS[-1]}."
        )
    options.precision.check(options.opset)
    if options.atol is not None and not 0 < options.atol < float("inf"):
        raise InputError(f"The tolerance must be positive, got {options.atol}.")


def _layers(exits: str | Sequence[int]) -> tuple[int, ...] | None:
    if exits == "all":
        return None
    parts = exits.split(",") if isinstance(exits, str) else exits
    try:
        layers = tuple(int(p) if isinstance(p, str) else operator.index(p) for p in parts)
    except (TypeError, ValueError):
        layers = ()
    if not layers or min(layers) < 1:
        raise InputError(f"Exits are `all` or 1-based layers such as 2,4,6; got {exits!r:.40}.")
    return layers

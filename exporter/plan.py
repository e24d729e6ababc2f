"""What an export decides before anything is traced: policy, knobs, variants, tokenizer, notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from effbert.exporter.checkpoints.activation import named_activation
from effbert.exporter.checkpoints.checkpoint import Checkpoint
from effbert.exporter.checkpoints.leftovers import settle
from effbert.exporter.checkpoints.length_store import HINT, find_store, stored_points
from effbert.exporter.checkpoints.tokenizer import FoundTokenizer, find_tokenizer
from effbert.exporter.encoders.labels import label_notes
from effbert.exporter.encoders.length_adaptive import LengthOptions, make_length_adaptive
from effbert.exporter.encoders.sizes import Variant, cut_variants, selector_knobs, size_notes
from effbert.exporter.encoders.zero_blocks import drop_zero_blocks
from effbert.exporter.formats.format import Format
from effbert.exporter.models.exit_model import Description, ExitModel
from effbert.exporter.models.load_options import LoadOptions
from effbert.exporter.options import ExportOptions, path_of
from effbert.exporter.policies.choice import (
    choose_policy,
    knob_values,
    why_nothing_exits,
    with_defaults,
)
from effbert.exporter.policies.policy import Policy
from effbert.runtime.bundle.manifest import Activation, Knob, Limits, OperatingPoint, Source
from effbert.runtime.errors import CheckpointError, InputError

ONE_VALUE = (
    "The model has one class, and config.json names neither a problem_type nor an activation: "
    "scores are its values, as of a regression; transformers' pipeline would show their sigmoid, "
    "as --activation sigmoid does."
)


@dataclass(frozen=True)
class Plan:
    """What will be exported.

    Attributes:
        source: Where the model comes from.
        description: Of the largest model, which is often the only one.
        policy: The exit policy, fitted to the model, with the default values of its knobs.
        knobs: All knobs of the bundle, with their defaults.
        variants: The models to export by index, and the knob values that select them.
        operating_points: Those that come with the checkpoint.
        notes: Sentences for the user.
        tokenizer: None where the checkpoint has none, or the user wants none.
        activation: What turns logits into scores; None is what the problem asks for.
    """

    source: Source
    description: Description
    policy: Policy
    knobs: tuple[Knob, ...]
    variants: tuple[Variant, ...]
    operating_points: tuple[OperatingPoint, ...]
    notes: tuple[str, ...]
    tokenizer: FoundTokenizer | None
    activation: Activation | None


def make_plan(
    opened: Checkpoint, family: Format, options: ExportOptions
) -> tuple[list[ExitModel], Plan]:
    """Build the torch models of a checkpoint, the largest first, and decide the rest.

    Raises:
        CheckpointError: Tensors, config or tokenizer cannot be used, or tensors are unknown.
        ExportError: The task, the exits or the policy do not fit the checkpoint.
        InputError: An option does not fit it.
    """
    _check_family(opened, family, options)
    model = family.load(
        opened,
        LoadOptions(
            options.task,
            options.exit_layers,
            options.policy,
            options.last_highway,
            options.layers,
            options.mask_threshold,
        ),
    ).eval()
    left_out = settle(opened, family.name)
    _require_room(opened, model.description.limits)
    _check_precision(opened, model.description, options)
    cut = options.widths or options.depths or model.description.precision != "fp32"
    sparse = () if cut else drop_zero_blocks(model)
    lengths = family.lengths(opened, _length_options(options))
    if lengths is not None:
        model = make_length_adaptive(model, lengths)
    points, stored = _stored(opened, model.description, lengths)
    notes = (
        *model.description.notes,
        *sparse,
        *stored,
        *size_notes(model.description, options.widths, options.depths),
        *label_notes(opened.config, len(model.description.labels)),
    )
    tokenizer = _tokenizer(opened, model.description, options)
    activation, scored = _activation(opened, model.description, options)
    models, variants = cut_variants(model, options.widths, options.depths)
    described = models[0].description
    fitted = choose_policy(options.policy, described)
    values = knob_values(fitted, described, options.knobs or {})
    exits = len(described.layers)
    policy = replace(fitted, knobs=with_defaults(fitted.knobs, values, exits))
    model_knobs = with_defaults(described.knobs, values, exits)
    plan = Plan(
        source=Source(
            name=opened.name,
            sha256=opened.sha256,
            format=described.format,
            architecture=described.architecture,
            paper=described.paper,
        ),
        description=described,
        policy=policy,
        knobs=(*policy.knobs, *model_knobs, *selector_knobs(variants)),
        variants=variants,
        operating_points=points,
        notes=(
            *notes,
            *([] if notes else why_nothing_exits(described, policy)),
            *scored,
            *left_out,
            *(tokenizer.notes if tokenizer else ()),
        ),
        tokenizer=tokenizer,
        activation=activation,
    )
    return models, plan


def _check_family(opened: Checkpoint, family: Format, options: ExportOptions) -> None:
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
    if options.mask_threshold is not None and family.name != "movement":
        raise InputError(
            f"{opened.name} is a {family.name} checkpoint, without scores of movement pruning; "
            "leave --mask-threshold out."
        )


def _check_precision(opened: Checkpoint, described: Description, options: ExportOptions) -> None:
    if described.precision == "fp32":
        return
    what = f"{opened.name} is quantized already ({described.format})"
    if options.precision != "fp32":
        raise InputError(f"{what} and keeps its own scales; leave --precision out.")
    if options.widths or options.depths or options.drops_tokens:
        raise InputError(
            f"{what}, and its scales are those of whole layers with all tokens; leave --widths, "
            "--depths and the options of lengths out."
        )


def _require_room(opened: Checkpoint, limits: Limits) -> None:
    if limits.max_length < limits.min_length:
        raise CheckpointError(
            f"{opened.name} takes {limits.max_length} tokens at most, fewer than the "
            f"{limits.min_length} of the shortest row; correct max_position_embeddings in "
            "config.json."
        )


def _length_options(options: ExportOptions) -> LengthOptions | None:
    if not options.drops_tokens:
        return None
    return LengthOptions(options.keep_cls, options.kept_tokens, options.pad_to)


def _stored(
    opened: Checkpoint, described: Description, lengths: LengthOptions | None
) -> tuple[tuple[OperatingPoint, ...], Sequence[str]]:
    """Read the search that a Length-Adaptive Transformer's training left beside the weights."""
    # That search knew neither PoWER-BERT's rule nor a model without some of its layers.
    other = described.skipped or (lengths is not None and lengths.retention is not None)
    store = None if other else find_store(opened.folder)
    if store is None:
        return (), ()
    if lengths is None:
        return (), (HINT.format(file=store.name),)
    [knob] = (knob for knob in described.knobs if knob.name == "lengths")
    points, note = stored_points(store, knob)
    return points, (note,)


def _tokenizer(
    opened: Checkpoint, described: Description, options: ExportOptions
) -> FoundTokenizer | None:
    if options.no_tokenizer:
        return None
    named = path_of(options.tokenizer)
    folder = named or opened.folder
    found = find_tokenizer(folder, opened.config, described.architecture, described.limits)
    if named is not None and found is None:
        raise InputError(f"{named} holds no tokenizer; expected tokenizer.json in it.")
    return found


def _activation(
    opened: Checkpoint, described: Description, options: ExportOptions
) -> tuple[Activation | None, list[str]]:
    """Choose the activation of a classifier; the note tells what the files leave open."""
    if described.task != "text-classification":
        if options.activation != "auto":
            raise InputError(f"--activation is for text classification, not {described.task}.")
        return None, []
    if options.activation != "auto":
        return cast("Activation", options.activation), []
    named = named_activation(opened)
    told = named or opened.config.get("problem_type") or len(described.layers) > 1
    return named, [ONE_VALUE] if described.problem == "regression" and not told else []

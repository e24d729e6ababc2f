"""Plain transformers checkpoints: any encoder family, one trained head, so one exit at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import ExportError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.checkpoints.tensors import Tensors
    from effbert.exporter.models.exit_model import ExitModel
    from effbert.exporter.models.single_exit import SingleExitModel
    from effbert.exporter.models.task_model import Kind


NAMED_ROBERTA = (
    "config.json says that this is a bert, but its tensors are named as those of a roberta, and so "
    "it is exported as one: positions are counted from the padding id."
)


def detect(shapes: Shapes, config: Config) -> bool:
    """Recognise a model type, and nothing more specific: this is the last row of the table."""
    del shapes
    return isinstance(config.get("model_type"), str)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build transformers' own model of the task.

    Raises:
        CheckpointError: Tensors are missing, unknown or of the wrong shape.
        ExportError: The family cannot be exported, or the task or the exits do not exist.
        InputError: The layers asked for do not exist.
    """
    config = checkpoint.config
    roberta = any(key.startswith("roberta.encoder.") for key in checkpoint.shapes)
    bert = any(key.startswith("bert.") for key in checkpoint.shapes)
    if config.get("model_type") != "bert" or not roberta or bert:
        return build(checkpoint, options)
    return build(
        checkpoint, options, config={**config, "model_type": "roberta"}, notes=(NAMED_ROBERTA,)
    )


def build(
    checkpoint: Checkpoint,
    options: LoadOptions,
    *,
    name: str = "plain",
    paper: str = "",
    config: Config | None = None,
    tensors: Tensors | None = None,
    adapt: Callable[[Kind], Kind] = lambda kind: kind,
    notes: tuple[str, ...] = (),
    **more: Any,
) -> SingleExitModel:
    """Build what `adapt` makes of transformers' own model of the task; see `load`.

    Args:
        checkpoint: Where everything comes from.
        options: The user's.
        name: The format.
        paper: And where it was published.
        config: In place of the checkpoint's own.
        tensors: In place of the checkpoint's own.
        adapt: Called with transformers' class; returns the one to fill.
        notes: Sentences for the user.
        more: Further fields of the description.
    """
    from effbert.exporter.encoders.depth import choose_kept, describe_kept, keep_layers
    from effbert.exporter.encoders.families import family_of
    from effbert.exporter.encoders.load import build_config
    from effbert.exporter.models.single_exit import SingleExitModel
    from effbert.exporter.models.task_model import load_task_model, require_encoder, require_run
    from effbert.exporter.models.tasks import choose_task, describe

    built = build_config(checkpoint, "", config)
    family = family_of(built)
    require_encoder(built)
    depth = built.num_hidden_layers
    kept = None if options.layers is None else choose_kept(options.layers, depth)
    last = depth if kept is None else len(kept)
    if options.exits not in (None, (last,)):
        raise ExportError(
            f"{checkpoint.name} has one trained head, after its last layer {last}; exits before "
            "that would answer at random, so train exit heads first or leave --exits out."
        )
    task = choose_task(checkpoint, options, built)
    description = describe(
        checkpoint,
        built,
        family,
        task,
        format=name,
        paper=paper,
        layers=(last,),
        skipped=tuple(each for each in range(1, depth + 1) if kept and each not in kept),
        notes=(*(() if kept is None else (describe_kept(kept, depth),)), *notes),
        **more,
    )
    for field, value in family.fixed.items():
        setattr(built, field, value)
    if tensors is None:
        tensors = checkpoint.load_tensors()
    loaded = load_task_model(checkpoint, built, task, tensors, adapt)
    if kept is not None:
        keep_layers(loaded, kept)
    family.prepare(loaded)
    model = SingleExitModel(loaded, family, description)
    require_run(checkpoint, model)
    return model


FORMAT = Format(
    name="plain",
    paper="the model's own; one exit at the end",
    detect=detect,
    load=load,
    policies=("none",),
    skips_layers=True,
)

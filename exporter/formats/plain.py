"""Plain transformers checkpoints: any encoder family, one trained head, so one exit at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, LoadOptions, Shapes
from effbert.runtime.errors import CheckpointError, ExportError
from effbert.runtime.manifest import Problem, Task

if TYPE_CHECKING:
    import torch
    import transformers

    from effbert.exporter.checkpoint import Checkpoint
    from effbert.exporter.families import Family
    from effbert.exporter.model import Description, ExitModel
    from effbert.exporter.single_exit import SingleExitModel
    from effbert.exporter.task_model import Kind

TASKS: dict[str, Task] = {
    "SequenceClassification": "text-classification",
    "TokenClassification": "token-classification",
    "QuestionAnswering": "question-answering",
}
PROBLEMS: dict[str, Problem] = {
    "single_label_classification": "single-label",
    "multi_label_classification": "multi-label",
    "regression": "regression",
}
# Heads that only one task has, for configs that do not name the class they were saved from.
HEADS: dict[str, Task] = {
    "qa_outputs.weight": "question-answering",
    "pre_classifier.weight": "text-classification",
    "classifier.out_proj.weight": "text-classification",
}


def detect(shapes: Shapes, config: Config) -> bool:
    """A model type, and nothing more specific: this is the last row of the table."""
    del shapes
    return isinstance(config.get("model_type"), str)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build transformers' own model of the task.

    Raises:
        CheckpointError: tensors are missing, unknown or of the wrong shape.
        ExportError: the family cannot be exported, or the task or the exits do not exist.
        InputError: the layers asked for do not exist.
    """
    return build(checkpoint, options)


def build(
    checkpoint: Checkpoint,
    options: LoadOptions,
    *,
    name: str = "plain",
    paper: str = "",
    config: Config | None = None,
    tensors: Mapping[str, torch.Tensor] | None = None,
    adapt: Callable[[Kind], Kind] = lambda kind: kind,
) -> SingleExitModel:
    """Build what `adapt` makes of transformers' own model of the task; see `load`.

    Args:
        checkpoint: where everything comes from.
        options: the user's.
        name: the format.
        paper: and where it was published.
        config: in place of the checkpoint's own.
        tensors: in place of the checkpoint's own.
        adapt: called with transformers' class; returns the one to fill.
    """
    from effbert.exporter.backbone import build_config
    from effbert.exporter.families import family_of
    from effbert.exporter.kept_layers import choose_kept, describe_kept, keep_layers
    from effbert.exporter.single_exit import SingleExitModel
    from effbert.exporter.task_model import load_task_model, require_encoder, require_run

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
    task = _task(checkpoint, options, built)
    description = replace(
        _describe(checkpoint, built, family, task),
        format=name,
        paper=paper,
        layers=(last,),
        notes=() if kept is None else (describe_kept(kept, depth),),
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


def _task(
    checkpoint: Checkpoint, options: LoadOptions, config: transformers.PretrainedConfig
) -> Task:
    """Tell the task from the class the checkpoint was saved from, or from its head, or `--task`."""
    saved = str((config.architectures or [""])[0])
    found = next((task for part, task in TASKS.items() if f"For{part}" in saved), None)
    if not saved:
        found = next((task for key, task in HEADS.items() if key in checkpoint.shapes), None)
    if found and options.task not in ("auto", found):
        raise ExportError(
            f"Task {options.task} does not fit: {checkpoint.name} was trained for {found}."
        )
    task = found or next((t for t in TASKS.values() if t == options.task), None)
    if task is None:
        raise ExportError(
            f"{checkpoint.name} does not say what it was trained for ("
            + (f"saved from {saved}" if saved else "config.json names no architectures")
            + f"); say --task {', --task '.join(list(TASKS.values())[:-1])} or --task "
            f"{list(TASKS.values())[-1]}."
        )
    return task


def _describe(
    checkpoint: Checkpoint, config: transformers.PretrainedConfig, family: Family, task: Task
) -> Description:
    from effbert.exporter.backbone import labels
    from effbert.exporter.model import INPUT_NAMES, Description
    from effbert.runtime.manifest import Limits

    classes = 0 if task == "question-answering" else config.num_labels
    types = getattr(config, "type_vocab_size", None) or 0
    typed = types > 1 and task not in family.derives_types
    return Description(
        format="plain",
        architecture=config.model_type,
        paper="",
        task=task,
        problem=_problem(checkpoint, config) if task == "text-classification" else None,
        labels=labels(config, classes),
        layers=(config.num_hidden_layers,),
        limits=Limits(
            min_length=family.min_length(config),
            max_length=family.max_length(config),
            vocab_size=config.vocab_size,
            type_vocab_size=types if typed else 0,
            pad_id=getattr(config, "pad_token_id", None) or 0,
        ),
        policy="none",
        inputs=INPUT_NAMES if typed else INPUT_NAMES[:2],
        outputs=("start_logits", "end_logits") if task == "question-answering" else ("logits",),
        padding_free=family.padding_free,
        atol=family.atol,
    )


def _problem(checkpoint: Checkpoint, config: transformers.PretrainedConfig) -> Problem:
    kind = config.problem_type
    if kind is None:
        return "regression" if config.num_labels == 1 else "single-label"
    if kind not in PROBLEMS:
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'}: problem_type is {kind!r}, expected "
            f"{', '.join(PROBLEMS)}."
        )
    return PROBLEMS[kind]


FORMAT = Format(
    name="plain",
    paper="the model's own; one exit at the end",
    detect=detect,
    load=load,
    policies=("none",),
    skips_layers=True,
)

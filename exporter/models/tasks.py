"""What a checkpoint with one trained head was trained for."""

from __future__ import annotations

from typing import Any

import transformers

from effbert.exporter.checkpoints.checkpoint import Checkpoint
from effbert.exporter.encoders.families import Family
from effbert.exporter.encoders.labels import config_problem, label_names
from effbert.exporter.models.exit_model import INPUT_NAMES, Description
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.bundle.manifest import Limits, Task
from effbert.runtime.errors import ExportError

TASKS: dict[str, Task] = {
    "SequenceClassification": "text-classification",
    "TokenClassification": "token-classification",
    "QuestionAnswering": "question-answering",
}
# Heads that only one task has, for configs that do not name the class they were saved from.
HEADS: dict[str, Task] = {
    "qa_outputs.weight": "question-answering",
    "pre_classifier.weight": "text-classification",
    "classifier.out_proj.weight": "text-classification",
}


def choose_task(
    checkpoint: Checkpoint, options: LoadOptions, config: transformers.PretrainedConfig
) -> Task:
    """Tell the task from the class the checkpoint was saved from, or from its head, or `--task`.

    Raises:
        ExportError: Nothing tells it, or the user asks for another.
    """
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


def describe(
    checkpoint: Checkpoint,
    config: transformers.PretrainedConfig,
    family: Family,
    task: Task,
    **more: Any,
) -> Description:
    """Describe a model with one exit from its config and family; `more` are fields they lack.

    Raises:
        CheckpointError: The file config.json names a problem that there is not.
    """
    classes = 0 if task == "question-answering" else config.num_labels
    types = getattr(config, "type_vocab_size", None) or 0
    typed = types > 1 and task not in family.derives_types
    return Description(
        architecture=config.model_type,
        task=task,
        problem=config_problem(config, classes) if task == "text-classification" else None,
        labels=label_names(config, classes),
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
        **more,
    )

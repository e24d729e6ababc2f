"""Load transformers' own model of a task, head included."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers
from transformers.models.auto import modeling_auto as auto

from effbert.exporter.checkpoints.checkpoint import Checkpoint
from effbert.exporter.checkpoints.tensors import Tensors
from effbert.exporter.encoders.fill import fill
from effbert.exporter.models.exit_model import ExitModel
from effbert.exporter.reason import short_reason
from effbert.exporter.trace import example_inputs
from effbert.runtime.bundle.manifest import Task
from effbert.runtime.errors import CheckpointError, ExportError

Kind = type[transformers.PreTrainedModel]
# What other classes of the same family leave behind, as long as this one has no such part.
OTHER_TASKS = {
    r"(?P<part>qa_outputs|classifier|pre_classifier|score)\..+": "the head of another task",
    r"(?P<part>(\w+\.)?pooler)\..+": "the pooler, which this task does not read",
    r"(?P<part>(funnel\.)?decoder)\..+": "the decoder, which this task does not run",
    r"(.+\.)?position_embeddings\.weight": "positions, which are relative in this model",
}


def require_encoder(config: transformers.PretrainedConfig) -> None:
    """Refuse decoders: they answer from the last token, and their attention is causal.

    Raises:
        ExportError: The config is that of a decoder.
    """
    name = config.model_type
    generates = name in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    encodes = name in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if (
        config.is_encoder_decoder
        or getattr(config, "is_decoder", False)
        or (generates and not encodes and name != "xlnet")
    ):
        raise ExportError(
            f"A {name} model with this config is a decoder or has one; effbert exports encoders."
        )


def load_task_model(
    checkpoint: Checkpoint,
    config: transformers.PretrainedConfig,
    task: Task,
    tensors: Tensors,
    adapt: Callable[[Kind], Kind],
) -> transformers.PreTrainedModel:
    """Fill what `adapt` makes of transformers' class for the task with `tensors`.

    Raises:
        CheckpointError: Tensors are missing or of the wrong shape.
        ExportError: The family has no model for the task.
    """
    classes = {
        "text-classification": transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        "token-classification": transformers.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
        "question-answering": transformers.MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    }[task]
    if type(config) not in classes:
        raise ExportError(f"transformers has no {config.model_type} model for {task}.")
    kind = adapt(classes[type(config)])
    for pattern, part in OTHER_TASKS.items():
        checkpoint.account.leave_out(pattern, part)
    return fill(
        checkpoint,
        kind,
        config,
        tensors,
        what=kind.__name__,
        if_missing="fine-tune the model for this task first, or choose another --task",
    )


def require_run(checkpoint: Checkpoint, model: ExitModel) -> None:
    """Run once: some configs build a model that cannot run, or that wants more than token ids.

    Raises:
        CheckpointError: It does not run.
    """
    try:
        with torch.inference_mode():
            model(**example_inputs(model))
    except Exception as error:  # whatever the model's own code raises
        raise CheckpointError(
            f"{checkpoint.name}: this {model.description.architecture} model does not run on token "
            f"ids alone: {short_reason(error)}."
        ) from error

"""Plain transformers checkpoints: any encoder family, one trained head, so one exit at the end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, LoadOptions, Shapes
from effbert.exporter.quiet import quietly
from effbert.exporter.reason import reason
from effbert.runtime.errors import CheckpointError, ExportError
from effbert.runtime.manifest import Problem, Task

if TYPE_CHECKING:
    import torch
    import transformers

    from effbert.exporter.checkpoint import Checkpoint
    from effbert.exporter.families import Family
    from effbert.exporter.model import Description, ExitModel

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
# What other classes of the same family leave behind, and buffers of older versions. Anything else
# that the model does not know may be part of its arithmetic: exits, quantizers, more layers.
LEFTOVERS = re.compile(
    r"(cls|lm_head|lm_loss|lm_predictions|predictions|mask_predictions|sop_classifier|qa_outputs|"
    r"classifier|pre_classifier|score|vocab_\w+|generator\w*|discriminator\w*)\..*"
    r"|(\w+\.)?(pooler|decoder)\..*|(.*\.)?(position_ids|token_type_ids|inv_freq)"
)


def detect(shapes: Shapes, config: Config) -> bool:
    """A model type, and nothing more specific: this is the last row of the table."""
    del shapes
    return isinstance(config.get("model_type"), str)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build transformers' own model of the task.

    Raises:
        CheckpointError: tensors are missing, unknown or of the wrong shape.
        ExportError: the family cannot be exported, or the task or the exits do not exist.
    """
    from effbert.exporter.backbone import build_config
    from effbert.exporter.families import family_of
    from effbert.exporter.single_exit import SingleExitModel

    config = build_config(checkpoint, "")
    family = family_of(config)
    _require_encoder(config)
    depth = config.num_hidden_layers
    if options.exits not in (None, (depth,)):
        raise ExportError(
            f"{checkpoint.name} has one trained head, after its last layer {depth}; exits before "
            "that would answer at random, so train exit heads first or leave --exits out."
        )
    task = _task(checkpoint, options, config)
    description = _describe(checkpoint, config, family, task)
    for name, value in family.fixed.items():
        setattr(config, name, value)
    loaded = _load_model(checkpoint, config, task)
    family.prepare(loaded)
    model = SingleExitModel(loaded, family, description)
    _require_run(checkpoint, model)
    return model


def _require_encoder(config: transformers.PretrainedConfig) -> None:
    """Refuse decoders: they answer from the last token, and their attention is causal."""
    from transformers.models.auto import modeling_auto as auto

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


def _load_model(
    checkpoint: Checkpoint, config: transformers.PretrainedConfig, task: Task
) -> transformers.PreTrainedModel:
    """Fill transformers' class for the task with the checkpoint's tensors, every one of them."""
    import torch
    import transformers

    classes = {
        "text-classification": transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        "token-classification": transformers.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
        "question-answering": transformers.MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    }[task]
    if type(config) not in classes:
        raise ExportError(f"transformers has no {config.model_type} model for {task}.")
    kind = classes[type(config)]
    tensors = checkpoint.load_tensors()
    with quietly():
        try:
            model, info = kind.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                output_loading_info=True,
                attn_implementation="eager",
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
            )
        except Exception as error:  # transformers raises many kinds, all meaning the same
            raise CheckpointError(
                f"{checkpoint.name}: config.json describes no model that can be built: "
                f"{reason(error)}."
            ) from error
    _require_complete(checkpoint, model, tensors, info)
    return model.eval()


def _require_complete(
    checkpoint: Checkpoint,
    model: transformers.PreTrainedModel,
    tensors: dict[str, torch.Tensor],
    info: dict[str, list[tuple[str, ...]]],
) -> None:
    kind = type(model).__name__
    if missing := sorted(map(str, info["missing_keys"])):
        raise CheckpointError(
            f"{checkpoint.name} lacks {len(missing)} tensors of a {kind}, such as {missing[0]}; "
            "fine-tune the model for this task first, or choose another --task."
        )
    if wrong := sorted(info["mismatched_keys"]):
        key, found, expected = wrong[0]
        raise CheckpointError(
            f"{checkpoint.name}: {key} is {list(found)}, but config.json makes it "
            f"{list(expected)}; correct config.json (num_labels, hidden_size, ...)."
        )
    whole = [
        name
        for name, _ in model.named_parameters()
        if name in tensors and not tensors[name].is_floating_point()
    ]
    if whole:
        raise CheckpointError(
            f"{checkpoint.name}: {whole[0]} holds {str(tensors[whole[0]].dtype)[6:]} numbers, "
            "expected floating point; export the weights from before quantization."
        )
    unknown = sorted(key for key in info["unexpected_keys"] if not LEFTOVERS.fullmatch(str(key)))
    if unknown:
        raise CheckpointError(
            f"{checkpoint.name} holds {len(unknown)} tensors that a {kind} does not have, such as "
            f"{unknown[0]}; it may be of another --format, or config.json may not be its own."
        )


def _require_run(checkpoint: Checkpoint, model: ExitModel) -> None:
    """Run once: some configs build a model that cannot run, or that wants more than token ids."""
    import torch

    from effbert.exporter.trace import example_inputs

    try:
        with torch.inference_mode():
            model(**example_inputs(model))
    except Exception as error:  # whatever the model's own code raises
        raise CheckpointError(
            f"{checkpoint.name}: this {model.description.architecture} model does not run on token "
            f"ids alone: {reason(error)}."
        ) from error


FORMAT = Format(
    name="plain",
    paper="the model's own; one exit at the end",
    detect=detect,
    load=load,
    policies=("none",),
)

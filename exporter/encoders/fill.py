"""Fill a transformers class with a checkpoint's tensors, and accept nothing but a perfect fit."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from effbert.exporter.checkpoints.checkpoint import Checkpoint
from effbert.exporter.checkpoints.leftovers import explain, some_names, without_reason
from effbert.exporter.checkpoints.tensors import Tensors
from effbert.exporter.quiet import quietly
from effbert.exporter.reason import short_reason
from effbert.runtime.errors import CheckpointError

INCOMPLETE = "it is incomplete, or config.json is not its own"
PREFIXED = "a training loop prefixed these: save the state_dict of the model itself"


def fill(
    checkpoint: Checkpoint,
    kind: type[transformers.PreTrainedModel],
    config: transformers.PretrainedConfig,
    tensors: Tensors,
    *,
    prefix: str = "",
    what: str,
    if_missing: str = INCOMPLETE,
    **options: Any,
) -> transformers.PreTrainedModel:
    """Build a model in float32 with eager attention, which traces to fewer nodes.

    Args:
        checkpoint: Named in messages.
        kind: The class.
        config: What it is built from.
        tensors: Its weights by name.
        prefix: What tensor names start with beyond those of the class.
        what: What is built, for messages.
        if_missing: What to do about a missing head, for messages.
        options: Further arguments of the class.

    Returns:
        The model; only the tensors that it took count as read.

    Raises:
        CheckpointError: A weight is missing, of another shape, or no floating-point number, or two
            tensors are the same weight.
    """
    name = checkpoint.name
    try:
        with quietly():
            model, info = kind.from_pretrained(
                None,
                config=config,
                state_dict=tensors.as_lazy(),
                output_loading_info=True,
                attn_implementation="eager",
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                **options,
            )
    except Exception as error:  # transformers raises many kinds, all meaning the same to a user
        raise CheckpointError(
            f"{name}: config.json describes no {what} that can be built: {short_reason(error)}."
        ) from error
    if wrong := sorted(info["mismatched_keys"]):
        key, found, expected = wrong[0]
        raise CheckpointError(
            f"{name}: {prefix}{key.removeprefix(prefix)} is {list(found)}, but config.json makes "
            f"it {list(expected)}; correct config.json (num_labels, hidden_size, ...)."
        )
    if missing := sorted(map(str, info["missing_keys"])):
        others = without_reason(tensors.unread(), checkpoint.account)
        instead = f", but holds others that do not fit ({some_names(others)})" if others else ""
        body = all(key.startswith(f"{model.base_model_prefix}.") for key in missing)
        advice = INCOMPLETE if body or others else if_missing
        if any(other.endswith(f".{prefix}{missing[0]}") for other in others):
            advice = PREFIXED
        raise CheckpointError(
            f"{name} lacks {len(missing)} {what} tensors, such as {prefix}{missing[0]}{instead}"
            f"{explain(others) or f'; {advice}'}."
        )
    if len(tensors) - len(tensors.unread()) > len(model.state_dict()):
        raise CheckpointError(
            f"{name} holds some weights of its {what} twice, by different names; remove those that "
            "are not the model's."
        )
    for key, _ in model.named_parameters():
        tensor = tensors.get(prefix + key)
        if tensor is not None and not tensor.is_floating_point():
            raise CheckpointError(
                f"{name}: {prefix}{key} holds {str(tensor.dtype).removeprefix('torch.')} numbers, "
                "expected floating point; export the weights from before quantization."
            )
    return model.eval()

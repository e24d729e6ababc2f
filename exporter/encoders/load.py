"""Load the encoder of a multi-exit checkpoint with transformers' own classes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn

from effbert.exporter.checkpoints.checkpoint import Checkpoint
from effbert.exporter.checkpoints.tensors import Tensors
from effbert.exporter.encoders.families import family_of
from effbert.exporter.encoders.fill import fill
from effbert.exporter.encoders.honoured import require_honoured
from effbert.exporter.encoders.labels import config_problem, label_names, with_id2label
from effbert.exporter.models.exit_model import Description
from effbert.exporter.quiet import quietly
from effbert.exporter.reason import short_reason
from effbert.runtime.bundle.manifest import Limits
from effbert.runtime.errors import CheckpointError

MAX_LAYERS = 512  # as in the manifest; a config that asks for millions would be built for hours


def load_backbone(
    checkpoint: Checkpoint,
    tensors: Tensors,
    prefix: str,
    config: Mapping[str, Any] | None = None,
) -> transformers.PreTrainedModel:
    """Build the encoder whose tensors start with `prefix.`, without its pooler.

    The class follows the model_type of `config`, which is the checkpoint's own unless given, or the
    prefix where an old config has none.

    Raises:
        CheckpointError: Encoder weights are missing or do not fit the config.
    """
    built = build_config(checkpoint, prefix, config)
    kind = transformers.MODEL_MAPPING.get(type(built), None)
    if getattr(kind, "base_model_prefix", None) != prefix:
        raise CheckpointError(
            f"{checkpoint.name} holds tensors of a {prefix}, but config.json is that of a "
            f"{built.model_type}; put the model's own config.json beside the weights."
        )
    own = tensors.renamed(lambda name: name if name.startswith(f"{prefix}.") else None)
    pools = "add_pooling_layer" in inspect.signature(kind).parameters  # DistilBERT never does
    options: dict[str, Any] = {"add_pooling_layer": False} if pools else {}
    return fill(
        checkpoint,
        kind,
        built,
        own,
        prefix=f"{prefix}.",
        what="encoder",
        **options,
    )


def build_config(
    checkpoint: Checkpoint, prefix: str, config: Mapping[str, Any] | None = None
) -> transformers.PretrainedConfig:
    """Read `config`, or config.json, as that of its `model_type`, or of the prefix without one.

    Raises:
        CheckpointError: The config names another architecture or has fields that do not fit.
    """
    fields = with_id2label(checkpoint.config if config is None else config)
    fields["return_dict"] = True  # tuples, which a config may ask for, do not name their parts
    if "chunk_size_feed_forward" in fields:  # it saves memory in training, and changes no answer
        fields["chunk_size_feed_forward"] = 0
    name = fields.get("model_type") or prefix
    if name not in transformers.CONFIG_MAPPING:
        raise CheckpointError(f"{checkpoint.name}: transformers does not know model type {name}.")
    path = checkpoint.folder / "config.json"
    require_honoured(path, fields, name)
    try:
        with quietly():
            built = transformers.CONFIG_MAPPING[name].from_dict(fields)
    except Exception as error:  # transformers validates configs with several exception classes
        raise CheckpointError(
            f"{path} is not a valid {name} config: {short_reason(error)}."
        ) from error
    layers = getattr(built, "num_hidden_layers", 1)
    if not isinstance(layers, int) or not 1 <= layers <= MAX_LAYERS:
        raise CheckpointError(
            f"{path} asks for {layers} layers, expected 1 to {MAX_LAYERS}; correct "
            "num_hidden_layers."
        )
    return built


def config_limits(config: transformers.PretrainedConfig) -> Limits:
    """Derive from a config how long rows may be and which ids exist."""
    return Limits(
        max_length=family_of(config).max_length(config),
        vocab_size=config.vocab_size,
        type_vocab_size=getattr(config, "type_vocab_size", 0),
        pad_id=config.pad_token_id or 0,
    )


def describe_classifier(
    name: str,
    paper: str,
    config: transformers.PretrainedConfig,
    classes: int,
    layers: tuple[int, ...],
    rules: Mapping[str, str],
    **more: Any,
) -> Description:
    """Describe a checkpoint whose exits classify whole texts.

    Args:
        name: The format.
        paper: Where it was published.
        config: Of the encoder.
        classes: Of each exit.
        layers: Of the exits.
        rules: The paper's policy for each problem; `none` for those it has none for.
        more: Whatever differs from the ordinary, as fields of `Description`.
    """
    meaning = config_problem(config, classes)
    usual = {
        "format": name,
        "architecture": config.model_type,
        "paper": paper,
        "task": "text-classification",
        "problem": meaning,
        "labels": label_names(config, classes),
        "layers": layers,
        "limits": config_limits(config),
        "policy": rules.get(meaning, "none") if meaning != "regression" or classes == 1 else "none",
    }
    return Description(**(usual | more))


class FixedPositions(nn.Module):
    """A RoBERTa that counts positions from `first` whatever the tokens are.

    Old RoBERTa code numbers positions 2, 3, ... even across padding tokens; transformers' own
    counts tokens that are not padding.
    """

    def __init__(self, backbone: nn.Module, first: int) -> None:
        """Take the encoder and the position of the first token."""
        super().__init__()
        self.model = backbone
        self.first = first

    def forward(self, input_ids: torch.Tensor, **inputs: object) -> object:
        """Call the encoder with explicit positions."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device) + self.first
        return self.model(input_ids=input_ids, position_ids=positions[None, :], **inputs)

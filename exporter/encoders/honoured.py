"""Settings of a config.json that change what a model computes, and that nothing here computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from effbert.runtime.errors import CheckpointError


class Setting(NamedTuple):
    """What a setting asks for unless it is empty or `harmless`, and what to do about it.

    The model types of `honoured_by` do compute it.
    """

    asks_for: str
    way_out: str
    harmless: object = None
    honoured_by: tuple[str, ...] = ()


DECODER = "effbert exports encoders"
BARE = "fine-tune without it, and export that"
BEFORE = "export the weights from before that"
SETTINGS: Mapping[str, Setting] = {
    "is_decoder": Setting("a model that is a decoder", DECODER),
    "is_encoder_decoder": Setting("a model that is a decoder or has one", DECODER),
    "add_cross_attention": Setting("attention to another model's states", DECODER),
    "position_embedding_type": Setting(
        "positions that transformers no longer computes",
        "retrain with absolute positions",
        harmless="absolute",
        honoured_by=("esm",),
    ),
    "relative_attention": Setting(
        "relative positions",
        "set model_type to that of the model, such as deberta-v2",
        honoured_by=("deberta", "deberta-v2"),
    ),
    "pruned_heads": Setting(
        "heads that were pruned", "effbert reads those of a BERT or RoBERTa without exits only"
    ),
    "layer_norm_type": Setting("no LayerNorm", BARE, harmless="layer_norm"),
    "gelu_patch": Setting("another activation", BARE),
    "pre_seq_len": Setting("a prefix before every layer", BARE),
    "prefix_projection": Setting("a prefix before every layer", BARE),
    "adapters": Setting("adapters", BARE),
    "quantization_config": Setting("quantized weights, which would be misread", BEFORE),
    "compression_config": Setting("compressed weights, which would be misread", BEFORE),
}


def require_honoured(path: Path, fields: Mapping[str, Any], model_type: str) -> None:
    """Refuse settings that would be ignored, though they change the answers.

    Args:
        path: Of config.json, for messages.
        fields: What it holds.
        model_type: Of the model that is built.

    Raises:
        CheckpointError: There is such a setting.
    """
    for name, setting in SETTINGS.items():
        value = fields.get(name)
        if isinstance(value, dict):
            value = any(value.values())
        if value and value != setting.harmless and model_type not in setting.honoured_by:
            raise CheckpointError(
                f"{path} asks for {setting.asks_for} ({name} is {fields[name]!r:.40}); "
                f"{setting.way_out}."
            )


def require_values(path: Path, fields: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Refuse settings that differ from what the only known code of a system computes.

    Raises:
        CheckpointError: One differs.
    """
    for name, value in fixed.items():
        if fields.get(name, value) != value:
            raise CheckpointError(
                f"{path} has {name} {fields[name]!r:.40}, but models of this kind compute with "
                f"{value!r}; correct it if it is not true, else effbert cannot export this model."
            )

"""Encoders whose layers differ in heads and neurons: BERT's classes, narrowed layer by layer.

transformers builds every layer from one config. Pruned heads (Michel et al., 2019), pruned neurons
(nn_pruning), DynaBERT's widths and AutoTinyBERT's attention all come down to the same arithmetic:
a layer has as many heads as its query has rows for, and scores are divided by the square root of
the head size, which pruning does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import transformers
from torch import nn


class Width(NamedTuple):
    """Of one layer: rows of query, key and value, and neurons of the feed-forward network."""

    attention: int
    neurons: int


def narrow_layers(encoder: Any, widths: Sequence[Width], head_size: int) -> None:
    """Give each layer of a BERT-like encoder new linear layers of its own widths, not yet filled.

    Args:
        encoder: The `encoder` of a transformers model, with layers named as BERT names them.
        widths: One a layer; `attention` is a multiple of `head_size`.
        head_size: Rows of one head.
    """
    for layer, width in zip(encoder.layer, widths, strict=True):
        attention = layer.attention.self
        hidden = attention.query.in_features
        for name in ("query", "key", "value"):
            setattr(attention, name, nn.Linear(hidden, width.attention))
        attention.num_attention_heads = width.attention // head_size
        attention.attention_head_size = head_size
        attention.all_head_size = width.attention
        attention.scaling = head_size**-0.5
        layer.attention.output.dense = nn.Linear(width.attention, hidden)
        layer.intermediate.dense = nn.Linear(hidden, width.neurons)
        layer.output.dense = nn.Linear(width.neurons, hidden)


def narrowed_class(
    kind: type[transformers.PreTrainedModel], widths: Sequence[Width], head_size: int
) -> type[transformers.PreTrainedModel]:
    """Make the class whose instances are those of `kind`, narrowed before they are filled.

    transformers then compares every tensor of a checkpoint with the narrowed shapes.
    """

    class Narrowed(kind):
        def __init__(self, config: transformers.PretrainedConfig, **options: Any) -> None:
            super().__init__(config, **options)
            narrow_layers(self.base_model.encoder, widths, head_size)

    Narrowed.__name__ = kind.__name__
    return Narrowed

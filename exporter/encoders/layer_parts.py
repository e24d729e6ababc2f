"""The two halves of an encoder layer, for families whose layers are BERT's by other names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from effbert.exporter.encoders.attention_parts import attention_shares, compute_attention
from effbert.runtime.errors import ExportError

LOWEST = torch.finfo(torch.float32).min


class LayerParts:
    """BERT, RoBERTa, XLM-R, ELECTRA."""

    def embed(self, encoder: Any, ids: Tensor, types: Tensor | None) -> Tensor:
        """Embed token ids, [batch, sequence, hidden]."""
        more = {} if types is None else {"token_type_ids": types}
        embedded = encoder.embeddings(input_ids=ids, **more)
        project = getattr(encoder, "embeddings_project", None)
        return embedded if project is None else project(embedded)

    def layers(self, encoder: Any) -> Sequence[Any]:
        """Return the layers in the order in which they run."""
        return encoder.encoder.layer

    def attend(self, layer: Any, hidden: Tensor, real: Tensor, seen: int) -> tuple[Tensor, Tensor]:
        """Attention with its residual and norm, and the shares [batch, heads, tokens, tokens].

        No head's shares are given if `seen` is 0, all of them if it is 1. They are computed beside
        the attention itself, which then costs what it costs where nobody looks at them.
        """
        context, shares = self_attention(layer.attention.self, hidden, real, seen)
        return layer.attention.output(context, hidden), shares

    def feed_forward(self, layer: Any, hidden: Tensor) -> Tensor:
        """Feed-forward with its residual and norm."""
        return layer.output(layer.intermediate(hidden), hidden)


class DistilBertParts(LayerParts):
    """DistilBERT."""

    def embed(self, encoder: Any, ids: Tensor, types: Tensor | None) -> Tensor:
        """See `LayerParts`."""
        return encoder.embeddings(ids)

    def layers(self, encoder: Any) -> Sequence[Any]:
        """See `LayerParts`."""
        return encoder.transformer.layer

    def attend(self, layer: Any, hidden: Tensor, real: Tensor, seen: int) -> tuple[Tensor, Tensor]:
        """See `LayerParts`."""
        own = layer.attention
        layers = own.q_lin, own.k_lin, own.v_lin
        context, shares = _attend(layers, own.n_heads, hidden, real, seen)
        return layer.sa_layer_norm(own.out_lin(context) + hidden), shares

    def feed_forward(self, layer: Any, hidden: Tensor) -> Tensor:
        """See `LayerParts`."""
        return layer.output_layer_norm(layer.ffn(hidden) + hidden)


class AlbertParts(LayerParts):
    """ALBERT with one inner layer a group."""

    def embed(self, encoder: Any, ids: Tensor, types: Tensor | None) -> Tensor:
        """See `LayerParts`."""
        embedded = encoder.embeddings(input_ids=ids, token_type_ids=types)
        return encoder.encoder.embedding_hidden_mapping_in(embedded)

    def layers(self, encoder: Any) -> Sequence[Any]:
        """See `LayerParts`."""
        config, groups = encoder.config, encoder.encoder.albert_layer_groups
        per_group = config.num_hidden_layers / config.num_hidden_groups
        return [
            groups[int(i / per_group)].albert_layers[0] for i in range(config.num_hidden_layers)
        ]

    def attend(self, layer: Any, hidden: Tensor, real: Tensor, seen: int) -> tuple[Tensor, Tensor]:
        """See `LayerParts`."""
        own = layer.attention
        context, shares = self_attention(own, hidden, real, seen)
        return own.LayerNorm(own.dense(context) + hidden), shares

    def feed_forward(self, layer: Any, hidden: Tensor) -> Tensor:
        """See `LayerParts`."""
        wide = layer.activation(layer.ffn(hidden))
        return layer.full_layer_layer_norm(layer.ffn_output(wide) + hidden)


PARTS: dict[str, LayerParts] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra"), LayerParts()),
    "distilbert": DistilBertParts(),
    "albert": AlbertParts(),
}


def layer_parts(config: Any) -> LayerParts:
    """Find the parts of a family's layers.

    Raises:
        ExportError: The family's layers are others than BERT's.
    """
    name = config.model_type
    if name not in PARTS or getattr(config, "inner_group_num", 1) != 1:
        raise ExportError(
            f"A {name} with this config cannot drop tokens, because its layers are not BERT's; "
            f"--length-adaptive works for {', '.join(PARTS)}."
        )
    return PARTS[name]


def self_attention(own: Any, hidden: Tensor, real: Tensor, seen: int) -> tuple[Tensor, Tensor]:
    """Attention of BERT's module `own`, without what follows; see `LayerParts.attend`."""
    layers, constant = (own.query, own.key, own.value), getattr(own, "constant", 0.0)
    return _attend(layers, own.num_attention_heads, hidden, real, seen, constant)


def _attend(
    layers: Sequence[Any],
    heads: int,
    hidden: Tensor,
    real: Tensor,
    seen: int,
    constant: float = 0.0,
) -> tuple[Tensor, Tensor]:
    query, key, value = (layer(hidden) for layer in layers)
    context = compute_attention(query, key, value, heads, _blocked(real), constant)
    # Without their bias: it adds the same to all scores of a query, which softmax takes out again,
    # so that a graph whose attention goes without it need not compute it.
    bare = linear(hidden, layers[1].weight)
    shares = attention_shares(query, bare, heads, _blocked(real), constant, seen * heads)
    return context, shares


def _blocked(real: Tensor) -> Tensor:
    return torch.where(real, 0.0, LOWEST)[:, None, None, :]

"""FastBERT's classifiers, each with a small attention layer of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from effbert.exporter.encoders.attention_parts import compute_attention
from effbert.exporter.heads.linear import load_linear
from effbert.runtime.errors import CheckpointError

Pooling = Literal["first", "last", "max"]
HEADS = 2
SEEN: dict[Pooling, slice] = {"first": slice(0, 1), "last": slice(-1, None), "max": slice(None)}


class StudentHead(nn.Module):
    """logits = W2 tanh(W1 pool(attention(tanh(W0 hidden)))) (FastBERT, section 3.1).

    The attention has two heads, no residual and no normalization. `pool` takes the first or the
    last token, or the maximum over all tokens; what it does not see is not computed.
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        name: str,
        hidden: int,
        classes: int,
        pooling: Pooling,
    ) -> None:
        """Take the tensors `name.*` for hidden states of the size `hidden`.

        Raises:
            CheckpointError: A tensor is missing or has the wrong shape.
        """
        super().__init__()
        self.narrow = load_linear(tensors, f"{name}.output_layer_0", hidden)
        width = self.narrow.out_features
        if width % HEADS:
            raise CheckpointError(
                f"{name}.output_layer_0 has {width} outputs, which {HEADS} attention heads cannot "
                "share."
            )
        self.query, self.key, self.value = (
            load_linear(tensors, f"{name}.self_atten.linear_layers.{i}", width, width)
            for i in range(3)
        )
        self.mix = load_linear(tensors, f"{name}.self_atten.final_linear", width, width)
        self.dense = load_linear(tensors, f"{name}.output_layer_1", width, width)
        self.classifier = load_linear(tensors, f"{name}.output_layer_2", width, classes)
        self.pooling = pooling

    def forward(self, hidden: torch.Tensor, blocked: torch.Tensor) -> torch.Tensor:
        """Map hidden states [batch, sequence, hidden] to logits [batch, classes].

        `blocked` is the additive float32 mask [batch, 1, 1, sequence].
        """
        narrow = torch.tanh(self.narrow(hidden))
        seen = narrow[:, SEEN[self.pooling]]
        projected = self.query(seen), self.key(narrow), self.value(narrow)
        context = compute_attention(*projected, HEADS, blocked)
        mixed = self.mix(context)
        pooled = mixed.amax(dim=1) if self.pooling == "max" else mixed[:, 0]
        logits: torch.Tensor = self.classifier(torch.tanh(self.dense(pooled)))
        return logits


class StudentHeads(nn.Module):
    """One student head at each exit layer; the deepest is the teacher."""

    def __init__(self, layers: Sequence[int], heads: Sequence[StudentHead]) -> None:
        """Take 1-based layers and their heads, in order."""
        super().__init__()
        self.layers = tuple(layers)
        self.exit = nn.ModuleList(heads)

    def forward(
        self, states: Sequence[torch.Tensor], *, blocked: torch.Tensor
    ) -> list[dict[str, torch.Tensor]]:
        """Map the hidden states after each layer to the outputs of each exit."""
        return [
            {"logits": head(states[layer - 1], blocked)}
            for layer, head in zip(self.layers, self.exit, strict=True)
        ]

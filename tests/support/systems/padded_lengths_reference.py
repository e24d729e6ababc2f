"""Both papers' code, written from its description: rows are padded, and padding takes part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from reference import ACTIVATIONS, Backbone, load_checkpoint
from systems.berxit_reference import distilbert_as_bert

PAD = 0


class Padded(NamedTuple):
    """Vectors after each layer, the first token's at the front; all tokens restored at the end."""

    states: list[Tensor]
    restored: Tensor
    gap: float  # the smallest difference in significance between a kept and a dropped token


class PaddedReference:
    """A BERT or DistilBERT whose rows have `length` tokens.

    `power` is PoWER-BERT: attention of a token to itself does not count, kept tokens are sorted,
    and the mask is cut to their number. Without it kept tokens stay in the order of their
    significance and the mask is gathered (Length-Adaptive Transformer).
    """

    def __init__(
        self, folder: Path, length: int, keep_first: bool = True, power: bool = False
    ) -> None:
        config, tensors = load_checkpoint(folder)
        if any(name.startswith("distilbert.") for name in tensors):
            config, tensors = distilbert_as_bert(config, tensors)
        self.bert = Backbone(folder, "bert", "bert", config, tensors)
        self.length = length
        self.keep_first = keep_first
        self.power = power

    def run(self, ids: Sequence[int], lengths: Sequence[float]) -> Padded:
        """Integers count tokens, other numbers are shares of `length`."""
        bert = self.bert
        row = torch.full((self.length,), PAD)
        row[: len(ids)] = torch.tensor(ids)
        mask = torch.arange(self.length) < len(ids)
        x = bert.embed(row, torch.zeros_like(row))
        remain, restored = torch.arange(self.length), x.clone()
        states, gap = [], math.inf
        for i in range(bert.layers):
            x, significance = self._attention(i, x, mask)
            kept = self._kept(significance, self._count(lengths[i]))
            dropped = torch.ones(len(x), dtype=torch.bool)
            dropped[kept] = False
            chosen = kept[1:] if self.keep_first else kept
            if dropped.any() and len(chosen):
                difference = float(significance[chosen].min() - significance[dropped].max())
                gap = min(gap, difference) if difference > 0 else gap
            mask = mask[: len(kept)] if self.power else mask[kept]
            remain = remain[kept]
            x = self._feed_forward(i, x[kept])
            restored[remain] = x
            states.append(x)
        return Padded(states, restored, gap)

    def _count(self, wanted: float) -> int:
        if isinstance(wanted, int):
            return min(wanted, self.length)
        return max(2, math.ceil(wanted * self.length - 1e-4))

    def _kept(self, significance: Tensor, count: int) -> Tensor:
        if self.keep_first:
            order = significance[1:].sort(descending=True, stable=True).indices[: count - 1] + 1
            order = torch.cat([torch.zeros(1, dtype=torch.int64), order])
        else:
            order = significance.sort(descending=True, stable=True).indices[:count]
        return order.sort().values if self.power else order

    def _attention(self, i: int, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        bert, name = self.bert, f"bert.encoder.layer.{i}.attention"
        heads = int(bert.config["num_attention_heads"])
        q, k, v = (
            bert.linear(f"{name}.self.{part}", x).reshape(len(x), heads, -1).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        shares = torch.softmax(scores.masked_fill(~mask, -math.inf), -1)
        significance = shares.sum((0, 1))
        if self.power:
            significance = (shares * (1 - torch.eye(len(x)))).sum((0, 1))
        mixed = (shares @ v).transpose(0, 1).reshape(len(x), -1)
        attended = bert.linear(f"{name}.output.dense", mixed) + x
        return bert.norm(f"{name}.output.LayerNorm", attended), significance

    def _feed_forward(self, i: int, x: Tensor) -> Tensor:
        bert, name = self.bert, f"bert.encoder.layer.{i}"
        act = ACTIVATIONS[bert.config["hidden_act"]]
        wide = act(bert.linear(f"{name}.intermediate.dense", x))
        return bert.norm(f"{name}.output.LayerNorm", bert.linear(f"{name}.output.dense", wide) + x)

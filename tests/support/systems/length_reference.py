"""Length-Adaptive Transformer and PoWER-BERT for one unpadded row, written from the papers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from reference import ACTIVATIONS, Backbone, load_checkpoint
from systems.berxit_reference import distilbert_as_bert


class Shortened(NamedTuple):
    """The kept positions after each layer, the vectors left then, and all tokens restored."""

    kept: list[list[int]]
    states: list[Tensor]
    restored: list[Tensor]
    gap: float  # the smallest difference in significance between a kept and a dropped token


class LengthReference:
    """Any BERT or DistilBERT checkpoint, its tokens dropped layer by layer."""

    def __init__(
        self,
        folder: Path,
        keep_first: bool = True,
        ignore_self: bool = False,
        layers: Sequence[int] = (),
    ) -> None:
        """Only `layers`, from 1, run; all of them if none is named."""
        config, tensors = load_checkpoint(folder)
        if any(name.startswith("distilbert.") for name in tensors):
            config, tensors = distilbert_as_bert(config, tensors)
        if layers:
            config = {**config, "num_hidden_layers": len(layers)}
            for index, layer in enumerate(layers):
                old, new = (f"bert.encoder.layer.{place}." for place in (layer - 1, index))
                moved = {k.replace(old, new): t for k, t in tensors.items() if k.startswith(old)}
                tensors = {**tensors, **moved}
        self.bert = Backbone(folder, "bert", "bert", config, tensors)
        self.keep_first = keep_first
        self.ignore_self = ignore_self

    def run(
        self,
        ids: Sequence[int],
        lengths: Sequence[float],
        types: Sequence[int] | None = None,
    ) -> Shortened:
        """Integers count tokens, other numbers are shares of the row's."""
        bert, total = self.bert, len(ids)
        row = torch.tensor(ids)
        x = bert.embed(row, torch.zeros_like(row) if types is None else torch.tensor(types))
        positions, restored = list(range(total)), x.clone()
        result = Shortened([], [], [], math.inf)
        gap = math.inf
        for i in range(bert.layers):
            x, significance = self._attention(i, x)
            wanted = lengths[i]
            count = (
                min(wanted, total)
                if isinstance(wanted, int)
                else min(max(2, math.ceil(wanted * total - 1e-4)), total)
            )
            ranked = sorted(range(len(x)), key=lambda j: (-significance[j], j))
            if self.keep_first:
                ranked = [0, *(j for j in ranked if j != 0)]
            stay = sorted(ranked[:count])
            if count < len(ranked):
                last = [j for j in ranked[:count] if j != 0 or not self.keep_first]
                if last:
                    difference = significance[last[-1]] - significance[ranked[count]]
                    gap = min(gap, difference) if difference > 0 else gap
            positions = [positions[j] for j in stay]
            x = self._feed_forward(i, x[stay])
            restored = restored.clone()
            restored[positions] = x
            result.kept.append(positions)
            result.states.append(x)
            result.restored.append(restored)
        return result._replace(gap=gap)

    def _attention(self, i: int, x: Tensor) -> tuple[Tensor, list[float]]:
        bert, name = self.bert, f"bert.encoder.layer.{i}.attention"
        heads = int(bert.config["num_attention_heads"])
        q, k, v = (
            bert.linear(f"{name}.self.{part}", x).reshape(len(x), heads, -1).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        shares = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), -1)
        counted = shares
        if self.ignore_self:
            counted = shares * (1 - torch.eye(len(x)))
        significance = counted.sum((0, 1)).tolist()
        mixed = (shares @ v).transpose(0, 1).reshape(len(x), -1)
        attended = bert.linear(f"{name}.output.dense", mixed) + x
        return bert.norm(f"{name}.output.LayerNorm", attended), significance

    def _feed_forward(self, i: int, x: Tensor) -> Tensor:
        bert, name = self.bert, f"bert.encoder.layer.{i}"
        act = ACTIVATIONS[bert.config["hidden_act"]]
        wide = act(bert.linear(f"{name}.intermediate.dense", x))
        return bert.norm(f"{name}.output.LayerNorm", bert.linear(f"{name}.output.dense", wide) + x)

"""Exits that know the past and guess the future, in plain torch, one unpadded row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from exit_rules import Decision, deebert_rule, entropy_naive
from reference import Backbone

Ids = Sequence[int]


def past_future(
    s: Sequence[Tensor],
    predict: tuple[Tensor, Tensor],
    classify: tuple[Tensor, Tensor],
    gate: tuple[Tensor, Tensor],
) -> list[Tensor]:
    """Logits [labels] of every exit, from the pooled states [hidden] of all layers.

    Args:
        s: The pooled states.
        predict: Weights [layer, in, out] and biases [layer, out].
        classify: Weights [layer, in, 2 * labels] and biases [layer, 2 * labels].
        gate: Weight [out, in] and bias [out].
    """
    labels, exits = len(gate[1]), []
    for i in range(len(s)):
        z = []
        for j in range(len(s)):
            state = s[j] if j <= i else torch.tanh(s[i] @ predict[0][j] + predict[1][j])
            z.append(state @ classify[0][j] + classify[1][j])
        past = torch.stack(z[: i + 1])[:, :labels].sum(0)
        future = torch.stack([torch.zeros(2 * labels), *z[i + 1 :]])[:, :labels].sum(0)
        g = torch.tanh(torch.stack(z[: i + 1])[:, labels:].sum(0) / (i + 1))
        weight = torch.sigmoid(gate[0] @ g + gate[1])
        exits.append(2 * weight * past + (2 - 2 * weight) * future)
    return exits


class GpfeeReference:
    """A Past-Future checkpoint: BERT, RoBERTa with positions from 2 on, or ALBERT."""

    def __init__(self, folder: Path) -> None:
        self.backbone = Backbone(folder)
        self.backbone.old = True
        self._exits = lru_cache(maxsize=None)(self._exits)

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return tuple(self.backbone.tensors[f"{name}.{part}"] for part in ("weight", "bias"))

    def _exits(self, ids: tuple[int, ...]) -> list[Tensor]:
        prefix, pooled = self.backbone.prefix, []
        for i, h in enumerate(self.backbone.hidden_states(ids)):
            pooler = "albert.pooler" if prefix == "albert" else f"{prefix}.poolers.{i}.dense"
            pooled.append(torch.tanh(self.backbone.linear(pooler, h[0])))
        names = (f"{prefix}.pred_layer", "classifiers", "classifiers.gate_proj")
        return past_future(pooled, *(self._pair(name) for name in names))

    def exits(self, ids: Ids) -> list[Tensor]:
        """Logits [labels] of every exit."""
        return self._exits(tuple(ids))

    def signals(self, ids: Ids) -> list[float]:
        """The entropy of every exit."""
        return [entropy_naive(x).item() for x in self.exits(ids)]

    def decide(self, ids: Ids, threshold: float | Sequence[float]) -> Decision:
        """Leave at the first exit, the last included, whose entropy is below its threshold."""
        exits = self.exits(ids)
        return deebert_rule(exits, exits[-1], threshold, "naive")

    def margin(self, ids: Ids, threshold: float | Sequence[float]) -> float:
        """How close a signal comes to its threshold: 1e-5 may be decided either way."""
        signals = self.signals(ids)
        thresholds = threshold if isinstance(threshold, Sequence) else [threshold] * len(signals)
        return min(abs(a - b) for a, b in zip(signals, thresholds, strict=True))

"""ElasticBERT's exits and its two rules in plain torch, one unpadded row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from exit_rules import Decision, deebert_rule, entropy_exp, pabee_rule
from reference import Backbone

Ids = Sequence[int]


class ElasticBertReference:
    """An ElasticBERT, static or dynamic, with an exit after each of its last layers."""

    def __init__(self, folder: Path) -> None:
        self.backbone = Backbone(folder, prefix="elasticbert", family="bert")
        tensors = self.backbone.tensors
        self.static = "classifier.weight" in tensors
        self.pooled = any("encoder.pooler" in name for name in tensors)
        self.first = self.backbone.layers - int(self.backbone.config["num_output_layers"])
        self._exits = lru_cache(maxsize=None)(self._exits)

    def _exits(self, ids: tuple[int, ...]) -> list[Tensor]:
        linear, exits = self.backbone.linear, []
        for i, h in enumerate(self.backbone.hidden_states(ids)):
            if i >= self.first:
                v = h[0]
                if self.pooled:
                    v = torch.tanh(linear(f"elasticbert.encoder.pooler.{i}.dense", v))
                name = "classifier" if self.static else f"classifiers.{i - self.first}"
                exits.append(linear(name, v))
        return exits

    def exits(self, ids: Ids) -> list[Tensor]:
        """Logits [labels] of every exit."""
        return self._exits(tuple(ids))

    def signals(self, ids: Ids) -> list[float]:
        """The entropy of every exit."""
        return [entropy_exp(x).item() for x in self.exits(ids)]

    def decide(self, ids: Ids, threshold: float | Sequence[float]) -> Decision:
        """Leave at the first exit, the last included, whose entropy is below its threshold."""
        exits = self.exits(ids)
        return deebert_rule(exits, exits[-1], threshold, "exp")

    def margin(self, ids: Ids, threshold: float | Sequence[float]) -> float:
        """How close a signal comes to its threshold: 1e-5 may be decided either way."""
        signals = self.signals(ids)
        thresholds = threshold if isinstance(threshold, Sequence) else [threshold] * len(signals)
        return min(abs(a - b) for a, b in zip(signals, thresholds, strict=True))


class PatientElasticBertReference(ElasticBertReference):
    """The same exits with the authors' other rule, PABEE's."""

    def decide(self, ids: Ids, threshold: int, regression_threshold: float = 0.0) -> Decision:
        """Leave once `threshold` exits in a row agreed with the one before."""
        return pabee_rule(self.exits(ids), threshold, regression_threshold)

    def margin(self, ids: Ids, threshold: int, regression_threshold: float = 0.0) -> float:
        """How close two labels come to a tie, or a difference to its threshold."""
        del threshold  # counts have no rounding
        exits = torch.stack(self.exits(ids))
        if exits.shape[1] == 1:
            return (exits.diff(dim=0).abs() - regression_threshold).abs().min().item()
        best = exits.topk(2, dim=1).values
        return (best[:, 0] - best[:, 1]).min().item()

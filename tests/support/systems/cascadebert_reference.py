"""CascadeBERT's members and its rule in plain torch, one unpadded row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from exit_rules import Decision
from reference import Backbone, load_checkpoint

Ids = Sequence[int]


class CascadeBertReference:
    """Complete BERTs in a row; each reads the token ids for itself."""

    def __init__(self, folder: Path) -> None:
        config, tensors = load_checkpoint(folder)
        self.members = []
        while f"cascade_classifiers.{len(self.members)}.weight" in tensors:
            prefix = f"cascade_models.{len(self.members)}"
            layers = 0
            while f"{prefix}.encoder.layer.{layers}.output.dense.weight" in tensors:
                layers += 1
            own = config | {"num_hidden_layers": layers}
            self.members.append(
                Backbone(folder, prefix=prefix, family="bert", config=own, tensors=tensors)
            )
        self._exits = lru_cache(maxsize=None)(self._exits)

    def _exits(self, ids: tuple[int, ...]) -> list[Tensor]:
        answers = []
        for number, member in enumerate(self.members):
            last = member.hidden_states(ids)[-1]
            pooled = torch.tanh(member.linear(f"{member.prefix}.pooler.dense", last[0]))
            answers.append(member.linear(f"cascade_classifiers.{number}", pooled))
        return answers

    def exits(self, ids: Ids) -> list[Tensor]:
        """Logits [labels] of every member."""
        return self._exits(tuple(ids))

    def signals(self, ids: Ids) -> list[float]:
        """The largest probability of every member's answer."""
        return [torch.softmax(x, -1).max().item() for x in self.exits(ids)]

    def decide(self, ids: Ids, threshold: float | Sequence[float]) -> Decision:
        """Take the first member that is surer than its threshold, or the last."""
        exits, signals = self.exits(ids), self.signals(ids)
        thresholds = threshold if isinstance(threshold, Sequence) else [threshold] * len(exits)
        for i, x in enumerate(exits):
            limit = torch.tensor(thresholds[i], dtype=torch.float32).item()
            if signals[i] > limit:
                return Decision(i + 1, x, signals[i])
        return Decision(len(exits), exits[-1], signals[-1])

    def margin(self, ids: Ids, threshold: float | Sequence[float]) -> float:
        """How close a signal comes to its threshold: 1e-5 may be decided either way."""
        signals = self.signals(ids)
        thresholds = threshold if isinstance(threshold, Sequence) else [threshold] * len(signals)
        return min(abs(a - b) for a, b in zip(signals[:-1], thresholds[:-1], strict=True))

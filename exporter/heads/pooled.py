"""The head of DeeBERT and PABEE: pool the first token, then classify."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from effbert.exporter.model import OVERRIDE


class PooledHead(nn.Module):
    """logits = classifier(tanh(pooler(hidden[:, 0])))."""

    def __init__(self, pooler: nn.Module, classifier: nn.Module) -> None:
        """Take the two linear layers; several heads may share one pooler."""
        super().__init__()
        self.pooler = pooler
        self.classifier = classifier

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map hidden states [batch, sequence, hidden] to logits [batch, classes]."""
        logits: torch.Tensor = self.classifier(torch.tanh(self.pooler(hidden[:, 0])))
        return logits


class PooledHeads(nn.Module):
    """One pooled head at each exit layer, and optionally a main head that answers at the last.

    With a main head, the last exit's own head becomes `override_logits`: the policy watches it, and
    it replaces the main logits where the policy fires.
    """

    def __init__(
        self, layers: Sequence[int], heads: Sequence[PooledHead], main: PooledHead | None = None
    ) -> None:
        """Take 1-based layers and their heads, in order."""
        super().__init__()
        self.layers = tuple(layers)
        self.exit = nn.ModuleList(heads)
        self.main = main

    def forward(self, states: Sequence[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Map the hidden states after each layer to the outputs of each exit."""
        outputs = [
            {"logits": head(states[layer - 1])}
            for layer, head in zip(self.layers, self.exit, strict=True)
        ]
        if self.main is not None:
            outputs[-1] = {
                "logits": self.main(states[self.layers[-1] - 1]),
                OVERRIDE: outputs[-1]["logits"],
            }
        return outputs

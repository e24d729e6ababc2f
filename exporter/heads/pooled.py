"""The head of DeeBERT, BERxiT and PABEE: pool the first token, then classify."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from effbert.exporter.models.exit_model import OVERRIDE


class PooledHead(nn.Module):
    """logits = classifier(activation(pooler(hidden[:, 0])))."""

    def __init__(
        self,
        pooler: nn.Module,
        classifier: nn.Module,
        activation: Callable[[torch.Tensor], torch.Tensor] = torch.tanh,
    ) -> None:
        """Take the two linear layers; several heads may share one pooler."""
        super().__init__()
        self.pooler = pooler
        self.classifier = classifier
        self.activation = activation

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map hidden states [batch, sequence, hidden] to the pooled vector [batch, hidden]."""
        return self.activation(self.pooler(hidden[:, 0]))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map hidden states [batch, sequence, hidden] to logits [batch, classes]."""
        logits: torch.Tensor = self.classifier(self.pool(hidden))
        return logits


class PooledHeads(nn.Module):
    """One pooled head at each exit layer, and optionally a main head that answers at the last.

    With a main head, the last exit's own head is left out or, if it `overrides`, becomes
    `override_logits`: the policy watches it, and it replaces the main logits where the policy
    fires.
    """

    def __init__(
        self,
        layers: Sequence[int],
        heads: Sequence[PooledHead],
        main: PooledHead | None = None,
        *,
        overrides: bool = True,
    ) -> None:
        """Take 1-based layers and their heads, in order."""
        super().__init__()
        self.layers = tuple(layers)
        self.exit = nn.ModuleList(heads)
        self.main = main
        self.overrides = overrides

    def forward(self, states: Sequence[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Map the hidden states after each layer to the outputs of each exit."""
        answers = [
            head(states[layer - 1]) for layer, head in zip(self.layers, self.exit, strict=True)
        ]
        outputs = [{"logits": answer} for answer in answers]
        if self.main is not None:
            outputs[-1] = {"logits": self.main(states[self.layers[-1] - 1])}
            if self.overrides:
                outputs[-1][OVERRIDE] = answers[-1]
        return outputs

"""One linear classifier an exit that labels every token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class TokenHeads(nn.Module):
    """logits = classifier(hidden), token by token."""

    def __init__(self, layers: Sequence[int], classifiers: Sequence[nn.Linear]) -> None:
        """Take 1-based layers and their classifiers, in order."""
        super().__init__()
        self.layers = tuple(layers)
        self.exit = nn.ModuleList(classifiers)

    def forward(self, states: Sequence[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Map the hidden states after each layer to the logits of each exit."""
        return [
            {"logits": classifier(states[layer - 1])}
            for layer, classifier in zip(self.layers, self.exit, strict=True)
        ]

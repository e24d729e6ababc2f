"""Exits that also judge themselves: BERxiT's learning to exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from effbert.exporter.heads.pooled import PooledHead, PooledHeads

EXIT_SCORE = "exit_score"


class ScoredHeads(nn.Module):
    """Pooled heads that yield `exit_score` too: how uncertain each exit's answer is.

    exit_score = sigmoid(score(v)), float32 [batch], with one `score` for all exits; v is the
    vector that the exit's classifier reads, or the first token's hidden state (BERxiT, section 3).
    """

    def __init__(self, heads: PooledHeads, score: nn.Module, *, pooled: bool) -> None:
        """Take the heads, the linear layer to one number, and whether it reads pooled vectors."""
        super().__init__()
        self.heads = heads
        self.score = score
        self.pooled = pooled

    def forward(self, states: Sequence[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Map the hidden states after each layer to the outputs of each exit."""
        outputs: list[dict[str, torch.Tensor]] = self.heads(states)
        for layer, head, output in zip(self.heads.layers, self.heads.exit, outputs, strict=True):
            hidden = states[layer - 1]
            vector = cast(PooledHead, head).pool(hidden) if self.pooled else hidden[:, 0]
            output[EXIT_SCORE] = torch.sigmoid(self.score(vector))[:, 0]
        return outputs

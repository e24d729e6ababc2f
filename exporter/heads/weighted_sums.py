"""Heads that classify a weighted sum of the pooled states of all layers so far.

The Right Tool for the Job (Schwartz et al., ACL 2020): every exit has its own weights, so the sums
of the exits to come are kept beside the hidden state instead of every layer's pooled state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class WeightedSumHeads(nn.Module):
    """logits_k = classifier_k(sum_j w_k[j] tanh(pooler(hidden_j[:, 0]))) / temperature_k.

    With `chained` heads a classifier reads the logits of all exits before it behind its sum.
    """

    def __init__(
        self,
        layers: Sequence[int],
        pooler: nn.Module,
        weights: Sequence[torch.Tensor],
        classifiers: Sequence[nn.Module],
        *,
        chained: bool,
    ) -> None:
        """Take the exits in order.

        Args:
            layers: 1-based layer of each exit.
            pooler: Linear layer that all layers share.
            weights: W_k, float32 [layer of the exit].
            classifiers: Linear layers, a chained one of hidden + k * classes inputs.
            chained: Whether they read the logits before them.
        """
        super().__init__()
        self.layers = tuple(layers)
        self.pooler = pooler
        self.classifiers = nn.ModuleList(classifiers)
        self.chained = chained
        starts = (0, *self.layers)
        for index, end in enumerate(self.layers):  # [exits to come, layers since the last exit]
            rows = [weight[starts[index] : end] for weight in weights[index:]]
            self.register_buffer(f"weights_{index}", torch.stack(rows))

    def forward(
        self, states: Sequence[torch.Tensor], temperature: Sequence[torch.Tensor]
    ) -> list[dict[str, torch.Tensor]]:
        """Map the hidden states after each layer to the outputs of each exit."""
        answers: list[torch.Tensor] = []
        sums: torch.Tensor | None = None  # [batch, exits to come, hidden]
        start = 0
        for index, end in enumerate(self.layers):
            tokens = torch.stack([state[:, 0] for state in states[start:end]], dim=1)
            new = self.get_buffer(f"weights_{index}") @ torch.tanh(self.pooler(tokens))
            sums = new if sums is None else sums[:, 1:] + new
            read = torch.cat([sums[:, 0], *(answers if self.chained else [])], dim=-1)
            answers.append(self.classifiers[index](read) / temperature[index])
            start = end
        return [{"logits": logits} for logits in answers]

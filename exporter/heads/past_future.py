"""Heads that look back and ahead: states of the layers so far, predictions of those to come.

From "A Global Past-Future Early Exit Method" (Liao et al., NAACL 2021). The pooled state s_j of
each layer yields z_j, 2 C numbers: its share of the logits and its share of a gate. An exit sums
the shares of all layers so far, predicts those of the layers behind it, and weighs past against
future by the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate

import torch
from torch import nn


class PastFutureHeads(nn.Module):
    """An exit after any layer: logits = 2 g past + (2 - 2 g) future.

    past and future are sums over all layers up to the exit and behind it, whichever layers have
    exits; at the last layer future is 0. The sums of the past run from exit to exit as two tensors
    [batch, classes].
    """

    def __init__(
        self,
        layers: Sequence[int],
        poolers: Sequence[nn.Module],
        predictors: Sequence[nn.Module],
        classifiers: Sequence[nn.Module],
        gate: nn.Module,
    ) -> None:
        """Take the 1-based exit layers, and linear layers for all encoder layers.

        Args:
            layers: The exits, in order.
            poolers: Hidden to hidden; all may be the same.
            predictors: Hidden to hidden; number j predicts s_j from an earlier state.
            classifiers: Hidden to 2 classes, z_j.
            gate: Classes to classes.
        """
        super().__init__()
        self.layers = tuple(layers)
        self.pooler = nn.ModuleList(poolers)
        self.predictor = nn.ModuleList(predictors)
        self.classifier = nn.ModuleList(classifiers)
        self.gate = gate

    def forward(self, states: Sequence[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Map the hidden states after each layer to the outputs of each exit."""
        poolers = zip(self.pooler, states, strict=True)
        return self.exits([torch.tanh(pooler(hidden[:, 0])) for pooler, hidden in poolers])

    def exits(self, pooled: Sequence[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Map pooled states [batch, hidden], one an encoder layer, to the outputs of each exit."""
        shares = [z(s).chunk(2, dim=-1) for z, s in zip(self.classifier, pooled, strict=True)]
        past = [*accumulate(logits for logits, _ in shares)]
        gates = [*accumulate(gate for _, gate in shares)]
        outputs = []
        for layer in self.layers:
            gate = torch.sigmoid(self.gate(torch.tanh(gates[layer - 1] / layer)))
            logits = 2 * gate * past[layer - 1]
            if layer < len(pooled):
                logits = logits + (2 - 2 * gate) * self._future(layer, pooled[layer - 1])
            outputs.append({"logits": logits})
        return outputs

    def _future(self, first: int, state: torch.Tensor) -> torch.Tensor:
        """Sum what `state` predicts for the layers from the 0-based `first`: [batch, classes]."""
        rest = zip(self.predictor[first:], self.classifier[first:], strict=True)
        shares = [classifier(torch.tanh(predictor(state))) for predictor, classifier in rest]
        return reduce(torch.add, shares).chunk(2, dim=-1)[0]

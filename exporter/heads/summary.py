"""A pooled head that may look at all tokens: the first, their mean, their maximum, or a sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from effbert.exporter.heads.linear import load_linear
from effbert.exporter.heads.pooled import PooledHead

# Over every column, padding included: rows must be run at their own length where one of the last
# two is used.
SUMMARIES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cls": lambda hidden: hidden[:, 0],
    "mean": lambda hidden: hidden.mean(dim=1),
    "max": lambda hidden: hidden.amax(dim=1),
}


class SummaryHead(PooledHead):
    """logits = classifier(tanh(pooler(sum of summaries of the hidden states)))."""

    def __init__(self, summaries: Sequence[str], pooler: nn.Linear, *layers: nn.Linear) -> None:
        """Take names of `SUMMARIES`, and the linear layers behind them, with tanh in between."""
        first, *deeper = layers
        steps: list[nn.Module] = [first]
        for layer in deeper:
            steps += [nn.Tanh(), layer]
        super().__init__(pooler, nn.Sequential(*steps))
        self.summaries = tuple(SUMMARIES[name] for name in summaries)
        self.classes = layers[-1].out_features

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map hidden states [batch, sequence, hidden] to the pooled vector [batch, width]."""
        first, *others = (summary(hidden) for summary in self.summaries)
        return self.activation(self.pooler(sum(others, start=first)))


def summary_head(
    tensors: Mapping[str, torch.Tensor],
    pooler: nn.Linear,
    name: str,
    *,
    summaries: Sequence[str],
    deep: bool,
    classes: int | None,
) -> SummaryHead:
    """Build the head whose classifier is `name`.classifier, or `name`.classifier1 and 2 if `deep`.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    if not deep:
        only = load_linear(tensors, f"{name}.classifier", pooler.out_features, classes)
        return SummaryHead(summaries, pooler, only)
    first = load_linear(tensors, f"{name}.classifier1", pooler.out_features)
    second = load_linear(tensors, f"{name}.classifier2", first.out_features, classes)
    return SummaryHead(summaries, pooler, first, second)

"""ELBERT as its paper's loop: one unpadded row, one exit after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exit_rules import Decision, entropy_naive
from reference import Backbone

POOLS = {"cls": lambda h: h[0], "mean": lambda h: h.mean(0), "max": lambda h: h.max(0).values}


def settled(rule: str, x: list[float], window: int, margin: float, spread: float) -> bool:
    """The second stage: does the list of probabilities so far end in an agreement?

    Args:
        rule: bias-1, bias-2 or bias-3.
        x: Probability of class 0 at every exit so far, the current one last.
        window: How many of the last are looked at; 0 means x[-0:], which is all of them.
        margin: Distance from 1/2.
        spread: Largest difference that bias-3 allows.
    """
    if len(x) < window:
        return False
    low, high = 0.5 - margin, 0.5 + margin
    if rule == "bias-1":
        last = [x[-i] for i in range(1, window + 1)]
        return all(p < low for p in last) or all(p > high for p in last)
    last = x[-window:]
    if rule == "bias-2":
        pairs = list(pairwise(last)) if window else []
        if last[0] < low:
            return all(new <= old for old, new in pairs)
        return last[0] > high and all(new >= old for old, new in pairs)
    return (min(last) > high or max(last) < low) and max(last) - min(last) <= spread


def elbert_rule(
    exits: Sequence[Tensor],
    rule: str,
    threshold: float = -math.inf,
    window: int = 65,
    margin: float = 0.0,
    range: float = -1.0,
) -> Decision:
    """Where a row leaves; `rule` is entropy, bias-1, bias-2, bias-3 or logits.

    The signal of the decision is what the rule compares with the threshold.
    """
    limits = [
        torch.tensor(value, dtype=torch.float32).item() for value in (threshold, margin, range)
    ]
    x: list[float] = []
    for logits in exits:
        p = torch.softmax(logits, -1)
        x.append(p[0].item())
        signal = first_stage(logits, rule)
        fired = signal < limits[0]
        if rule.startswith("bias"):
            fired = fired or settled(rule, x, window, *limits[1:])
        if fired:
            break
    return Decision(len(x), logits, signal)


def first_stage(logits: Tensor, rule: str) -> float:
    """The smallest probability, or the entropy over ln C."""
    if rule == "logits":
        return torch.softmax(logits, -1).min().item()
    return (entropy_naive(logits) / math.log(len(logits))).item()


def closeness(exits: Sequence[Tensor], rule: str, **knobs: Any) -> float:
    """The smallest distance of anything that the rule compares to what it is compared with."""
    threshold = knobs.get("threshold", -math.inf)
    near = [abs(first_stage(x, rule) - threshold) for x in exits]
    if rule.startswith("bias"):
        p = torch.stack([torch.softmax(x, -1)[0] for x in exits])
        near.append(((p - 0.5).abs() - knobs.get("margin", 0.0)).abs().min().item())
    if rule == "bias-2":
        near.append(p.diff().abs().min().item())
    if rule == "bias-3":
        apart = (p[:, None] - p[None]).abs()
        near.append((apart - knobs.get("range", -1.0)).abs().min().item())
    return min(near)


class ElbertReference:
    """An ELBERT checkpoint without `module.` before its keys."""

    def __init__(self, folder: Path) -> None:
        self.backbone = Backbone(folder)
        self.config = self.backbone.config
        self.rule = str(self.config["thres_name"]).replace("_", "-")
        self._exits = lru_cache(maxsize=None)(self._exits)

    def head(self, index: int, hidden: Tensor) -> Tensor:
        """Logits [labels] from the hidden states [tokens, hidden] after layer `index`, from 0."""
        config, linear = self.config, self.backbone.linear
        count = int(config["num_exit_layers"])
        name = "albert.encoder.exit_out_layer"
        if count > 1:
            name = f"{name}s.{index // (self.backbone.layers // count)}"
        read = sum(POOLS[part](hidden) for part in str(config["pooler_input"]).split("-"))
        pooler = "albert.pooler" if config["use_out_pooler"] else f"{name}.pooler"
        pooled = torch.tanh(linear(pooler, read))
        if config["use_fc2"]:
            hidden_layer = torch.tanh(linear(f"{name}.classifier1", pooled))
            return linear(f"{name}.classifier2", hidden_layer)
        return linear(f"{name}.classifier", pooled)

    def _exits(self, ids: tuple[int, ...]) -> list[Tensor]:
        return [self.head(i, h) for i, h in enumerate(self.backbone.hidden_states(ids))]

    def exits(self, ids: Sequence[int]) -> list[Tensor]:
        """Logits [labels] of every exit."""
        return self._exits(tuple(ids))

    def decide(self, ids: Sequence[int], **knobs: Any) -> Decision:
        """Where the row leaves by the rule of config.json."""
        return elbert_rule(self.exits(ids), self.rule, **knobs)

    def margin(self, ids: Sequence[int], **knobs: Any) -> float:
        """How close a comparison comes to its other outcome."""
        return closeness(self.exits(ids), self.rule, **knobs)

"""FastBERT in plain torch, one unpadded row at a time, and both of its loops."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from exit_rules import Decision, entropy_categorical


def uncertainty(logits: Tensor) -> float:
    """u: the entropy of an answer [labels], as a share of the largest one possible."""
    return (entropy_categorical(logits) / -math.log(1 / len(logits))).item()


def each(speed: float | Sequence[float], count: int) -> Sequence[float]:
    """The speed of every exit."""
    return speed if isinstance(speed, Sequence) else [speed] * count


def fastbert_rule(
    exits: Sequence[Tensor], speed: float | Sequence[float], packaged: bool
) -> Decision:
    """Go on unless u < speed (the PyPI package), or while u > speed (the authors' script)."""
    number = 0
    for logits, own in zip(exits, each(speed, len(exits)), strict=True):
        limit = torch.tensor(own, dtype=torch.float32).item()
        number += 1
        u = uncertainty(logits)
        leaves = u < limit if packaged else not u > limit
        if leaves:
            break
    return Decision(number, logits, u)


class FastBertReference:
    """A FastBERT checkpoint, either layout."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        tensors = torch.load(folder / "fastbert.bin", weights_only=True)
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        self.packaged = any(name.startswith("kernel.") for name in tensors)
        self.tensors = {name.removeprefix("kernel."): tensor for name, tensor in tensors.items()}
        self.pooling = self.config.get("pooling", "first")
        self._exits = lru_cache(maxsize=None)(self._exits)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Unbiased standard deviation, epsilon outside of the root."""
        mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True, unbiased=True)
        gamma, beta = self.tensors[f"{name}.gamma"], self.tensors[f"{name}.beta"]
        return gamma * (x - mean) / (std + 1e-6) + beta

    def attention(self, name: str, x: Tensor, heads: int) -> Tensor:
        """Multi-head self-attention with its last linear layer, head after head."""
        q, k, v = (self.linear(f"{name}.linear_layers.{i}", x) for i in range(3))
        size = x.shape[-1] // heads
        parts = []
        for h in range(heads):
            own = slice(h * size, (h + 1) * size)
            scores = q[:, own] @ k[:, own].T / math.sqrt(size)
            parts.append(torch.softmax(scores, -1) @ v[:, own])
        return self.linear(f"{name}.final_linear", torch.cat(parts, -1))

    def classify(self, i: int, hidden: Tensor) -> Tensor:
        """Logits [labels] of classifier `i`."""
        name = f"classifiers.{i}"
        a = torch.tanh(self.linear(f"{name}.output_layer_0", hidden))
        s = self.attention(f"{name}.self_atten", a, heads=2)
        v = {"first": s[0], "last": s[-1], "max": s.max(0).values}[self.pooling]
        v = torch.tanh(self.linear(f"{name}.output_layer_1", v))
        return self.linear(f"{name}.output_layer_2", v)

    def _exits(self, ids: tuple[int, ...], types: tuple[int, ...] | None) -> list[Tensor]:
        segments = [1] * len(ids) if types is None else [1 + kind for kind in types]
        x = self.tensors["embedding.word_embedding.weight"][list(ids)]
        x = x + self.tensors["embedding.position_embedding.weight"][: len(ids)]
        x = x + self.tensors["embedding.segment_embedding.weight"][segments]
        x = self.norm("embedding.layer_norm", x)
        exits = []
        for i in range(self.config["layers_num"]):
            layer = f"encoder.transformer.{i}"
            a = self.attention(f"{layer}.self_attn", x, self.config["heads_num"])
            x = self.norm(f"{layer}.layer_norm_1", x + a)
            y = F.gelu(self.linear(f"{layer}.feed_forward.linear_1", x))
            y = self.linear(f"{layer}.feed_forward.linear_2", y)
            x = self.norm(f"{layer}.layer_norm_2", x + y)
            exits.append(self.classify(i, x))
        return exits

    def exits(self, ids: Sequence[int], types: Sequence[int] | None = None) -> list[Tensor]:
        """Logits [labels] of every classifier."""
        return self._exits(tuple(ids), None if types is None else tuple(types))

    def signals(self, ids: Sequence[int]) -> list[float]:
        """u at every exit."""
        return [uncertainty(logits) for logits in self.exits(ids)]

    def decide(
        self,
        ids: Sequence[int],
        threshold: float | Sequence[float],
        types: Sequence[int] | None = None,
    ) -> Decision:
        """Where the row leaves; `threshold` is the speed."""
        return fastbert_rule(self.exits(ids, types), threshold, self.packaged)

    def margin(self, ids: Sequence[int], threshold: float | Sequence[float]) -> float:
        """How close u comes to the speed: 1e-5 may be decided either way."""
        signals = self.signals(ids)
        speeds = each(threshold, len(signals))
        return min(abs(u - speed) for u, speed in zip(signals, speeds, strict=True))

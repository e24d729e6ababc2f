"""SENTEE and TOKEE for one unpadded row, token by token, as the authors' code decides."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from exit_rules import entropy_exp
from reference import Backbone


class Sentence(NamedTuple):
    """Where a sentence left: exit number from 1, logits [tokens, labels], what was compared."""

    exit_number: int
    logits: Tensor
    signal: float


class Words(NamedTuple):
    """Where words left: layer from 1 and logits by first piece, and the smallest margin met."""

    layers: dict[int, int]
    logits: dict[int, Tensor]
    margin: float


class SenteeReference:
    """A converted checkpoint with one classifier a layer."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
        self.bert = Backbone(folder, "ptm_encoder", "bert", self.config, tensors)
        self.labels = tensors["classfiers.0.w.weight"].shape[0]

    def head(self, i: int, hidden: Tensor) -> Tensor:
        return self.bert.linear(f"classfiers.{i}.w", hidden)

    def unsure(self, logits: Tensor) -> Tensor:
        return entropy_exp(logits) / math.log(self.labels)

    def exits(self, ids: Sequence[int]) -> list[Tensor]:
        """Logits [tokens, labels] of every layer, nothing leaving."""
        return [self.head(i, h) for i, h in enumerate(self.bert.hidden_states(ids))]

    def sentence(
        self, ids: Sequence[int], words: Sequence[int], threshold: float, signal: str = "entropy"
    ) -> Sentence:
        """SENTEE: the whole sentence leaves where its least sure word is sure enough."""
        first = [p for p, word in enumerate(words) if word == p]
        limit = torch.tensor(threshold, dtype=torch.float32).item()
        exits = self.exits(ids)
        for i, logits in enumerate(exits):
            if signal == "entropy":
                value = max([self.unsure(logits[p]).item() for p in first], default=-math.inf)
                fires = value < limit
            else:
                best = [logits[p].softmax(-1).max().item() for p in first]
                value = min(best, default=math.inf)
                fires = value > limit
            if fires or i == len(exits) - 1:
                return Sentence(i + 1, logits, value)
        raise AssertionError("a model has layers")

    def words(
        self,
        ids: Sequence[int],
        words: Sequence[int],
        threshold: Sequence[float],
        token_threshold: float = -math.inf,
        window: int = 5,
    ) -> Words:
        """TOKEE: words leave one by one and are not computed any more."""
        same = bool(self.config["keep_norm_same"])
        whole = self.config.get("copy_wordpiece", "all") == "all"
        first = [p for p, word in enumerate(words) if word == p]
        row = torch.tensor(ids)
        hidden = self.bert.embed(row, torch.zeros_like(row))
        before = hidden.clone()
        active = [True] * len(ids)
        layers: dict[int, int] = {}
        out: dict[int, Tensor] = {}
        margin = math.inf
        for i in range(self.bert.layers):
            hidden, before = self._layer(i, hidden, before, active, same)
            logits = self.head(i, hidden)
            waiting = [p for p in first if p not in layers]
            if i == self.bert.layers - 1:
                layers |= dict.fromkeys(waiting, i + 1)
                out |= {p: logits[p] for p in waiting}
                break
            u = [self.unsure(logits[p]).item() for p in first]
            limit = torch.tensor(threshold[i], dtype=torch.float32).item()
            for p in waiting:
                n = first.index(p)
                around = max(u[max(0, n - window // 2) : n + window // 2 + 1])
                margin = min(margin, abs(around - limit), abs(u[n] - token_threshold))
                if around < limit or u[n] < token_threshold:
                    layers[p], out[p] = i + 1, logits[p]
                    for q, word in enumerate(words):
                        if q == p or (whole and word == p):
                            active[q] = False
            if len(layers) == len(first):
                break
        return Words(layers, out, margin)

    def _layer(
        self, i: int, hidden: Tensor, before: Tensor, active: list[bool], same: bool
    ) -> tuple[Tensor, Tensor]:
        bert, name = self.bert, f"ptm_encoder.encoder.layer.{i}"
        heads = int(self.config["num_attention_heads"])
        places = [p for p, on in enumerate(active) if on]
        own = hidden[places]
        part = f"{name}.attention.self"
        q, k, v = (
            bert.linear(f"{part}.{kind}", x).reshape(len(x), heads, -1).transpose(0, 1)
            for kind, x in (("query", own), ("key", hidden), ("value", hidden))
        )
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(own), -1)
        a = bert.linear(f"{name}.attention.output.dense", mixed) + own
        a = bert.norm(f"{name}.attention.output.LayerNorm", a)
        wide = F.gelu(bert.linear(f"{name}.intermediate.dense", a))
        z = bert.linear(f"{name}.output.dense", wide) + a
        if same:
            before = before.clone()
            before[places] = z
            return bert.norm(f"{name}.output.LayerNorm", before), before
        hidden = hidden.clone()
        hidden[places] = bert.norm(f"{name}.output.LayerNorm", z)
        return hidden, before

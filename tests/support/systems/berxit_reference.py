"""BERxiT's exits and its rule in plain torch, one unpadded row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from exit_rules import Decision, entropy_exp
from reference import Backbone, load_checkpoint


class Heads(NamedTuple):
    """Of one row: logits of every highway and of the main head, and every highway's `u`."""

    highways: list[Tensor]
    main: Tensor
    scores: list[float]


def distilbert_as_bert(
    config: dict[str, object], tensors: dict[str, Tensor]
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """A DistilBERT is a BERT without token types and pooler, its parts called otherwise."""
    names = {
        "distilbert.transformer": "bert.encoder",
        "distilbert.embeddings": "bert.embeddings",
        "attention.q_lin": "attention.self.query",
        "attention.k_lin": "attention.self.key",
        "attention.v_lin": "attention.self.value",
        "attention.out_lin": "attention.output.dense",
        "sa_layer_norm": "attention.output.LayerNorm",
        "ffn.lin1": "intermediate.dense",
        "ffn.lin2": "output.dense",
        "output_layer_norm": "output.LayerNorm",
    }
    renamed = {}
    for key, tensor in tensors.items():
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[key] = tensor
    renamed["bert.embeddings.token_type_embeddings.weight"] = torch.zeros(1, int(config["dim"]))
    return {
        "num_hidden_layers": config["n_layers"],
        "num_attention_heads": config["n_heads"],
        "hidden_act": config["activation"],
        "layer_norm_eps": 1e-12,
    }, renamed


class BerxitReference:
    """A BERxiT checkpoint; learning to exit decides where it was trained, entropy elsewhere.

    With `last_highway` the untrained last highway is asked too, as DeeBERT does.
    """

    def __init__(self, folder: Path, last_highway: bool = False) -> None:
        self.last_highway = last_highway
        config, tensors = load_checkpoint(folder)
        self.distil = "n_layers" in config
        albert = "embedding_size" in config  # has no classifier that learns to exit
        self.learned = str(config["divide"]).endswith("-lte") and not albert
        if self.distil:
            config, tensors = distilbert_as_bert(config, tensors)
        self.backbone = Backbone(folder, config=config, tensors=tensors)
        self._heads = lru_cache(maxsize=None)(self._heads)

    def _heads(self, ids: tuple[int, ...], types: tuple[int, ...] | None) -> Heads:
        linear, prefix = self.backbone.linear, self.backbone.prefix
        highways, scores = [], []
        for i, h in enumerate(self.backbone.hidden_states(ids, types)):
            name = f"{prefix}.encoder.highway.{i}"
            if self.distil:
                z, seen = torch.relu(linear(f"{name}.pre_classifier", h[0])), h[0]
            else:
                z = seen = torch.tanh(linear(f"{name}.pooler.dense", h[0]))
            highways.append(linear(f"{name}.classifier", z))
            if self.learned:
                u = torch.sigmoid(linear(f"{prefix}.encoder.lte_classifier", seen))
                scores.append(u.item())
        if self.distil:
            z = torch.relu(linear("pre_classifier", h[0]))
        else:
            pooler = "albert.pooler" if prefix == "albert" else f"{prefix}.pooler.dense"
            z = torch.tanh(linear(pooler, h[0]))
        return Heads(highways, linear("classifier", z), scores)

    def heads(self, ids: Sequence[int], types: Sequence[int] | None = None) -> Heads:
        """All heads' answers to one row."""
        return self._heads(tuple(ids), None if types is None else tuple(types))

    def exits(self, ids: Sequence[int], types: Sequence[int] | None = None) -> list[Tensor]:
        """Logits [labels] of every exit when nothing stops: the last is the main head's."""
        heads = self.heads(ids, types)
        return [*heads.highways[:-1], heads.main]

    def signals(self, ids: Sequence[int], types: Sequence[int] | None = None) -> list[float]:
        """What is compared at every exit; at the last one it may only be reported."""
        heads = self.heads(ids, types)
        if self.learned:
            return heads.scores
        watched = heads.highways if self.last_highway else self.exits(ids, types)
        return [entropy_exp(x).item() for x in watched]

    def decide(
        self,
        ids: Sequence[int],
        threshold: float | Sequence[float],
        types: Sequence[int] | None = None,
    ) -> Decision:
        """Leave at the first highway whose signal is below its threshold, else at the main head."""
        heads, signals = self.heads(ids, types), self.signals(ids, types)
        thresholds = threshold if isinstance(threshold, Sequence) else [threshold] * len(signals)
        for i in range(self._asked()):
            if signals[i] < torch.tensor(thresholds[i], dtype=torch.float32).item():
                return Decision(i + 1, heads.highways[i], signals[i])
        return Decision(len(signals), heads.main, signals[-1])

    def _asked(self) -> int:
        """How many highways may answer."""
        return self.backbone.layers if self.last_highway else self.backbone.layers - 1

    def margin(self, ids: Sequence[int], threshold: float | Sequence[float]) -> float:
        """How close a signal comes to its threshold: 1e-5 may be decided either way."""
        signals = self.signals(ids)
        thresholds = threshold if isinstance(threshold, Sequence) else [threshold] * len(signals)
        return min(abs(signals[i] - thresholds[i]) for i in range(self._asked()))

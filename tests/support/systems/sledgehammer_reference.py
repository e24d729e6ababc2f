"""The Right Tool for the Job as its paper's loop: one unpadded row, one exit after the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from exit_rules import Decision
from reference import Backbone

Numbers = float | Sequence[float]


def per_exit(value: Numbers, exits: int) -> list[float]:
    """The float32 value at each exit."""
    values = value if isinstance(value, Sequence) else [value] * exits
    return torch.tensor(values, dtype=torch.float32).tolist()


class SledgehammerReference:
    """A checkpoint without `module.` before its keys.

    Temperatures are those of config.json, or `temperature` at every exit.
    """

    def __init__(self, folder: Path, temperature: float | None = None) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.layers = [int(part) for part in config["model"]["layer_indices"].split("_")]
        self.chained = config["model"]["add_previous_layer_logits"]
        given = config["model"].get("scaling_temperature", "_".join("1" * len(self.layers)))
        self.temperature: Numbers = [float(part) for part in given.split("_")]
        if temperature is not None:
            self.temperature = temperature
        self.tensors = torch.load(folder / "best.th", weights_only=True)
        words = self.tensors["bert_model.embeddings.word_embeddings.weight"]
        bert = {
            "num_hidden_layers": self.layers[-1] + 1,
            "num_attention_heads": words.shape[1] // 64,
            "layer_norm_eps": 1e-12,
            "hidden_act": "gelu",
        }
        self.backbone = Backbone(
            folder, prefix="bert_model", family="bert", config=bert, tensors=self.tensors
        )
        self._pooled = lru_cache(maxsize=None)(self._pooled)

    def _pooled(self, ids: tuple[int, ...]) -> list[Tensor]:
        states = self.backbone.hidden_states(ids)
        return [torch.tanh(self.backbone.linear("bert_model.pooler.dense", h[0])) for h in states]

    def exits(self, ids: Sequence[int], temperature: Numbers | None = None) -> list[Tensor]:
        """Logits [labels] of every exit, divided by the temperatures (None: its own)."""
        pooled = self._pooled(tuple(ids))
        given = self.temperature if temperature is None else temperature
        answers: list[Tensor] = []
        temperatures = per_exit(given, len(self.layers))
        for k, (layer, t) in enumerate(zip(self.layers, temperatures, strict=True)):
            weights = self.tensors[f"_sum_weights.{k}"]
            v = sum(weights[j] * pooled[j] for j in range(layer + 1))
            if self.chained:
                v = torch.cat([v, *answers])
            answers.append(self.backbone.linear(f"_classification_layers.{k}", v) / t)
        return answers

    def decide(
        self, ids: Sequence[int], threshold: Numbers, temperature: Numbers | None = None
    ) -> Decision:
        """Leave at the first exit whose largest probability reaches its threshold."""
        exits = self.exits(ids, temperature)
        limits = per_exit(threshold, len(exits))
        for number, logits in enumerate(exits, start=1):
            confidence = torch.softmax(logits, -1).max().item()
            if confidence >= limits[number - 1]:
                break
        return Decision(number, logits, confidence)

    def signals(self, ids: Sequence[int], temperature: Numbers | None = None) -> list[float]:
        """The largest probability at every exit."""
        return [torch.softmax(x, -1).max().item() for x in self.exits(ids, temperature)]

    def margin(
        self, ids: Sequence[int], threshold: Numbers, temperature: Numbers | None = None
    ) -> float:
        """How close a probability comes to its threshold."""
        signals = self.signals(ids, temperature)
        limits = per_exit(threshold, len(signals))
        return min(abs(a - b) for a, b in zip(signals, limits, strict=True))

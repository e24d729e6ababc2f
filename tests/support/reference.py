"""Slow, obvious references for backbones and their exits: one unpadded row at a time.

Written from the papers and the published checkpoints' layout in plain torch. Nothing here comes
from effbert or from a model class, so both can be judged by it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from exit_rules import ENTROPIES, Decision, deebert_rule, pabee_rule

# --- backbones ----------------------------------------------------------------------------------


def load_checkpoint(folder: Path) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Read config and tensors, old `gamma` and `beta` names put right."""
    config = json.loads((folder / "config.json").read_text())
    if (folder / "model.safetensors").exists():
        tensors = load_file(folder / "model.safetensors")
    else:
        tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    new = {".gamma": ".weight", ".beta": ".bias"}
    for old, name in new.items():
        tensors = {k.replace("LayerNorm" + old, "LayerNorm" + name): v for k, v in tensors.items()}
    return config, tensors


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh form of GELU, called `gelu_new` in configurations."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FAMILIES = ("bert", "roberta", "albert")
ACTIVATIONS = {"gelu": F.gelu, "gelu_new": gelu_tanh}


class Backbone:
    """Hidden states of a BERT, RoBERTa or ALBERT checkpoint for one unpadded row.

    `prefix` is what the tensors' names start with and `family` whose arithmetic they follow; both
    are found out, and config and tensors read from the folder, unless given.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str | None = None,
        family: str | None = None,
        config: dict[str, object] | None = None,
        tensors: dict[str, Tensor] | None = None,
    ) -> None:
        if config is None or tensors is None:
            self.config, self.tensors = load_checkpoint(folder)
        self.config = self.config if config is None else config
        self.tensors = self.tensors if tensors is None else tensors
        self.prefix = prefix or next(
            n for n in FAMILIES if f"{n}.embeddings.word_embeddings.weight" in self.tensors
        )
        self.family = family or (self.prefix if self.prefix in FAMILIES else "bert")
        self.layers = int(self.config["num_hidden_layers"])
        # Only the vendored transformers 2.1.1 writes a configuration without these two.
        self.old = not self.config.get("architectures") and (
            "transformers_version" not in self.config
        )

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x W^T + b with the weights called `name`."""
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        """LayerNorm over the last axis with population variance."""
        centred = x - x.mean(-1, keepdim=True)
        variance = (centred**2).mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(variance + self.config["layer_norm_eps"])
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def positions(self, ids: Tensor) -> Tensor:
        """Rows of the position table for `ids` [tokens]."""
        if self.family != "roberta":
            return torch.arange(len(ids))
        if self.old:
            return torch.arange(2, len(ids) + 2)
        pad = int(self.config["pad_token_id"])
        real = (ids != pad).long()
        return real.cumsum(0) * real + pad

    def embed(self, ids: Tensor, types: Tensor) -> Tensor:
        """Normed sum of the three embeddings, [tokens, hidden or embedding size]."""
        table = f"{self.prefix}.embeddings"
        x = self.tensors[f"{table}.word_embeddings.weight"][ids]
        x = x + self.tensors[f"{table}.position_embeddings.weight"][self.positions(ids)]
        x = x + self.tensors[f"{table}.token_type_embeddings.weight"][types]
        return self.norm(f"{table}.LayerNorm", x)

    def attention(self, x: Tensor, query: str, key: str, value: str) -> Tensor:
        """Multi-head self-attention without its output projection, [tokens, hidden]."""
        heads = int(self.config["num_attention_heads"])
        q, k, v = (
            self.linear(name, x).reshape(len(x), heads, -1).transpose(0, 1)
            for name in (query, key, value)
        )
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        return (torch.softmax(scores, -1) @ v).transpose(0, 1).reshape(len(x), -1)

    def bert_layer(self, i: int, x: Tensor) -> Tensor:
        """Layer `i` of BERT or RoBERTa."""
        act = ACTIVATIONS[self.config["hidden_act"]]
        name = f"{self.prefix}.encoder.layer.{i}"
        self_ = f"{name}.attention.self"
        a = self.attention(x, f"{self_}.query", f"{self_}.key", f"{self_}.value")
        a = self.linear(f"{name}.attention.output.dense", a)
        x = self.norm(f"{name}.attention.output.LayerNorm", a + x)
        y = act(self.linear(f"{name}.intermediate.dense", x))
        return self.norm(f"{name}.output.LayerNorm", self.linear(f"{name}.output.dense", y) + x)

    def albert_layer(self, i: int, x: Tensor) -> Tensor:
        """Step `i` of ALBERT: all inner layers of the group that serves it."""
        act = ACTIVATIONS[self.config["hidden_act"]]
        group = int(i / (self.layers / int(self.config["num_hidden_groups"])))
        for k in range(int(self.config["inner_group_num"])):
            name = f"{self.prefix}.encoder.albert_layer_groups.{group}.albert_layers.{k}"
            part = f"{name}.attention"
            a = self.attention(x, f"{part}.query", f"{part}.key", f"{part}.value")
            x = self.norm(f"{part}.LayerNorm", self.linear(f"{part}.dense", a) + x)
            y = self.linear(f"{name}.ffn_output", act(self.linear(f"{name}.ffn", x)))
            x = self.norm(f"{name}.full_layer_layer_norm", y + x)
        return x

    def hidden_states(self, ids: Sequence[int], types: Sequence[int] | None = None) -> list[Tensor]:
        """The output of every layer, each [tokens, hidden]."""
        row = torch.tensor(ids, dtype=torch.long)
        kinds = torch.zeros_like(row) if types is None else torch.tensor(types, dtype=torch.long)
        x = self.embed(row, kinds)
        if self.family == "albert":
            x = self.linear(f"{self.prefix}.encoder.embedding_hidden_mapping_in", x)
        layer = self.albert_layer if self.family == "albert" else self.bert_layer
        states = []
        for i in range(self.layers):
            x = layer(i, x)
            states.append(x)
        return states


# --- models -------------------------------------------------------------------------------------


class DeeBertReference:
    """A DeeBERT checkpoint, either layout."""

    def __init__(self, folder: Path) -> None:
        self.backbone = Backbone(folder)
        self.entropy = "naive" if self.backbone.old else "exp"
        self._heads = lru_cache(maxsize=None)(self._heads)

    def _heads(
        self, ids: tuple[int, ...], types: tuple[int, ...] | None
    ) -> tuple[list[Tensor], Tensor]:
        backbone, prefix = self.backbone, self.backbone.prefix
        highways = []
        for i, h in enumerate(backbone.hidden_states(ids, types)):
            name = f"{prefix}.encoder.highway.{i}"
            pooled = torch.tanh(backbone.linear(f"{name}.pooler.dense", h[0]))
            highways.append(backbone.linear(f"{name}.classifier", pooled))
        pooled = torch.tanh(backbone.linear(f"{prefix}.pooler.dense", h[0]))
        return highways, backbone.linear("classifier", pooled)

    def heads(
        self, ids: Sequence[int], types: Sequence[int] | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Logits of all highways, and of the main head."""
        return self._heads(tuple(ids), None if types is None else tuple(types))

    def exits(self, ids: Sequence[int], types: Sequence[int] | None = None) -> list[Tensor]:
        """Logits [labels] of every exit when nothing stops: the last is the main head's."""
        highways, main = self.heads(ids, types)
        return [*highways[:-1], main]

    def signals(self, ids: Sequence[int], types: Sequence[int] | None = None) -> list[float]:
        """The entropy of every highway."""
        return [ENTROPIES[self.entropy](x).item() for x in self.heads(ids, types)[0]]

    def decide(
        self,
        ids: Sequence[int],
        threshold: float | Sequence[float],
        types: Sequence[int] | None = None,
    ) -> Decision:
        """Where the row leaves, with the entropy flavour of the checkpoint's layout."""
        return deebert_rule(*self.heads(ids, types), threshold, self.entropy)

    def margin(self, ids: Sequence[int], threshold: float | Sequence[float]) -> float:
        """How close a signal comes to its threshold: 1e-5 may be decided either way."""
        signals = self.signals(ids)
        thresholds = threshold if isinstance(threshold, Sequence) else [threshold] * len(signals)
        return min(abs(a - b) for a, b in zip(signals, thresholds, strict=True))


class PabeeReference:
    """A PABEE checkpoint, BERT or ALBERT, classification or regression."""

    def __init__(self, folder: Path) -> None:
        self.backbone = Backbone(folder)
        self._exits = lru_cache(maxsize=None)(self._exits)

    def _exits(self, ids: tuple[int, ...], types: tuple[int, ...] | None) -> list[Tensor]:
        backbone = self.backbone
        pooler = {"bert": "bert.pooler.dense", "albert": "albert.pooler"}[backbone.prefix]
        return [
            backbone.linear(f"classifiers.{i}", torch.tanh(backbone.linear(pooler, h[0])))
            for i, h in enumerate(backbone.hidden_states(ids, types))
        ]

    def exits(self, ids: Sequence[int], types: Sequence[int] | None = None) -> list[Tensor]:
        """Logits [labels] of every exit."""
        return self._exits(tuple(ids), None if types is None else tuple(types))

    def decide(
        self,
        ids: Sequence[int],
        threshold: int,
        regression_threshold: float = 0.0,
        types: Sequence[int] | None = None,
    ) -> Decision:
        """Where the row leaves; `threshold` is the patience."""
        return pabee_rule(self.exits(ids, types), threshold, regression_threshold)

    def margin(
        self, ids: Sequence[int], threshold: int, regression_threshold: float = 0.0
    ) -> float:
        """How close two labels come to a tie, or a difference to its threshold."""
        del threshold  # counts have no rounding
        exits = torch.stack(self.exits(ids))
        if exits.shape[1] == 1:
            return (exits.diff(dim=0).abs() - regression_threshold).abs().min().item()
        best = exits.topk(2, dim=1).values
        return (best[:, 0] - best[:, 1]).min().item()

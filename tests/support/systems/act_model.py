"""Small random ALBERT-ACT checkpoints, and the authors' halting loop for one unpadded row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from checkpoints import EMBEDDING, HEADS, HIDDEN, albert_shapes, random_tensors
from exit_rules import Decision
from reference import Backbone
from vocabularies import MAX_TOKENS, vocabulary, write_tokenizer

LAYER = "albert.encoder.albert_layer."
SHARED = "albert.encoder.albert_layer_groups.0.albert_layers.0."


def write_act(
    folder: Path,
    *,
    layers: int = 5,
    labels: int = 3,
    epsilon: float | None = 0.01,
    tokenizer: str | None = None,
    seed: int = 1,
) -> Path:
    """Write a checkpoint (Simoulin and Crabbé, 2021) and return its folder."""
    shapes = {k.replace(SHARED, LAYER): shape for k, shape in albert_shapes(1, 1).items()}
    shapes |= {f"{LAYER}act.dense.weight": (1, HIDDEN), f"{LAYER}act.dense.bias": (1,)}
    shapes |= {"classifier.weight": (labels, HIDDEN), "classifier.bias": (labels,)}
    tensors = random_tensors(shapes, HIDDEN, seed)
    tensors[f"{LAYER}act.dense.bias"] += 0.3  # most tokens halt after two or three steps
    config = {
        "model_type": "albert_act",
        "embedding_size": EMBEDDING,
        "hidden_act": "gelu_new",
        "hidden_size": HIDDEN,
        "inner_group_num": 1,
        "intermediate_size": 2 * HIDDEN,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": MAX_TOKENS,
        "num_attention_heads": HEADS,
        "num_hidden_groups": 1,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": len(vocabulary("albert")),
        "id2label": {str(i): f"LABEL_{i}" for i in range(labels)},
    } | ({} if epsilon is None else {"act_epsilon": epsilon})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    write_tokenizer(folder, "albert", tokenizer)
    return folder


class ActReference:
    """Tokens gather halting probability, and mix their states as long as they run."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        stored = load_file(folder / "model.safetensors")
        tensors = {k.replace(LAYER, SHARED): tensor for k, tensor in stored.items()}
        self.albert = Backbone(folder, "albert", "albert", config, tensors)
        self.full = 1.0 - config.get("act_epsilon", 0.01)
        self._run = lru_cache(maxsize=None)(self._run)

    def _run(self, ids: tuple[int, ...]) -> list[tuple[Tensor, float]]:
        """Logits and the least halting probability after every step, nothing stopping."""
        albert = self.albert
        row = torch.tensor(ids)
        x = albert.embed(row, torch.zeros_like(row))
        state = albert.linear("albert.encoder.embedding_hidden_mapping_in", x)
        hp = torch.zeros(len(ids))
        steps = []
        for _ in range(albert.layers):
            new = albert.albert_layer(0, state)
            p = torch.sigmoid(albert.linear(f"{SHARED}act.dense", new))[:, 0]
            weight = torch.zeros(len(ids))
            for t in range(len(ids)):
                if hp[t] < 1:
                    weight[t] = 1 - hp[t] if hp[t] + p[t] > self.full else p[t]
            hp = hp + weight
            state = weight[:, None] * new + (1 - weight[:, None]) * state
            pooled = torch.tanh(albert.linear("albert.pooler", state[0]))
            steps.append((albert.linear("classifier", pooled), hp.min().item()))
        return steps

    def exits(self, ids: Sequence[int]) -> list[Tensor]:
        return [logits for logits, _ in self._run(tuple(ids))]

    def signals(self, ids: Sequence[int]) -> list[float]:
        return [halted for _, halted in self._run(tuple(ids))]

    def decide(self, ids: Sequence[int], threshold: float | None = None) -> Decision:
        """While any token has gathered less than the threshold, go on."""
        limit = torch.tensor(self.full if threshold is None else threshold).item()
        steps = self._run(tuple(ids))
        for number, (logits, halted) in enumerate(steps, start=1):
            if halted >= limit or number == len(steps):
                return Decision(number, logits, halted)
        raise AssertionError("a model has layers")

    def margin(self, ids: Sequence[int], threshold: float | None = None) -> float:
        """How close a halting probability comes to the threshold, or to where a token halts."""
        limit = self.full if threshold is None else threshold
        return min(abs(halted - limit) for halted in self.signals(ids))

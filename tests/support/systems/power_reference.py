"""PoWER-BERT for one unpadded row: the arithmetic of its Keras code, in numpy and float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from systems.power_checkpoint import HEADS

EPSILON = 1e-7  # keras.backend.epsilon(), and its square in LayerNormalization


class Answered(NamedTuple):
    logits: np.ndarray
    kept: list[list[int]]
    gap: float  # the smallest difference in significance between a kept and a dropped token


class PowerReference:
    """The layers of one file, run in order; `retention` None drops nothing."""

    def __init__(self, path: Path, constant: float = EPSILON) -> None:
        self.constant = constant
        self.weights: dict[str, np.ndarray] = {}
        with h5py.File(path, "r") as file:
            for layer, group in file["model_weights"].items():
                for name in group.attrs["weight_names"]:
                    leaf = name.decode().split("/")[-1].removesuffix(":0")
                    self.weights[f"{layer} {leaf.split('_')[-1]}"] = np.float64(group[name])
        self.layers = sum(name.endswith(" Wq") for name in self.weights)

    def run(
        self,
        ids: Sequence[int],
        retention: Sequence[int] | None,
        types: Sequence[int] | None = None,
    ) -> Answered:
        w = self.weights
        x = w["Embedding-Token embeddings"][list(ids)]
        x = x + w["Embedding-Segment embeddings"][[0] * len(ids) if types is None else list(types)]
        x = self._norm("Embedding", x + w["Embedding-Position embeddings"][: len(ids)])
        positions, kept, gap = [*range(len(ids))], [], math.inf
        for i in range(1, self.layers + 1):
            name = f"Encoder-{i}-MultiHeadSelfAttention"
            mixed, shares = self._attention(name, x)
            x = self._norm(name, x + mixed)
            if retention is not None:
                stay, distance = self._extract(shares, retention[i - 1])
                x, positions, gap = x[stay], [positions[j] for j in stay], min(gap, distance)
            kept.append(positions)
            name = f"Encoder-{i}-FeedForward"
            wide = gelu(x @ w[f"{name} W1"] + w[f"{name} b1"])
            x = self._norm(name, x + wide @ w[f"{name} W2"] + w[f"{name} b2"])
        pooled = np.tanh(x[0] @ w["NSP-Dense kernel"] + w["NSP-Dense bias"])
        return Answered(pooled @ w["NSP kernel"] + w["NSP bias"], kept, gap)

    def _attention(self, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = self.weights
        q, k, v = (x @ w[f"{name} W{part}"] + w[f"{name} b{part}"] for part in "qkv")
        size = x.shape[1] // HEADS
        contexts, shares = [], []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            e = q[:, part] @ k[:, part].T / math.sqrt(size)
            e = np.exp(e - e.max(-1, keepdims=True))
            shares.append(e / (e.sum(-1, keepdims=True) + self.constant))
            contexts.append(shares[-1] @ v[:, part])
        return np.concatenate(contexts, -1) @ w[f"{name} Wo"] + w[f"{name} bo"], np.stack(shares)

    def _extract(self, shares: np.ndarray, count: int) -> tuple[list[int], float]:
        """The tokens that stay, in order, and by how much the last of them won."""
        attended = shares.mean(0).sum(0) - shares.mean(0).diagonal()
        ranked = [0, *sorted(range(1, len(attended)), key=lambda j: (-attended[j], j))]
        gap = math.inf
        if 1 < count < len(ranked):
            gap = attended[ranked[count - 1]] - attended[ranked[count]]
        return sorted(ranked[:count]), gap

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON**2)
        return scaled * self.weights[f"{name}-Norm gamma"] + self.weights[f"{name}-Norm beta"]


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

"""Small random FastBERT checkpoints (Liu et al., ACL 2020): the script's and the PyPI package's."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from checkpoints import HEADS, HIDDEN, Shapes, _linear, write_noise
from vocabularies import MAX_TOKENS, vocabulary, write_tokenizer

STUDENT = 128
# Standard deviation of a weight whose name holds the key, first match wins: rows differ, and so do
# the answers of a row's exits.
SPREAD = {
    "embedding.": 1.0,
    "output_layer_0": 0.15,
    "output_layer_1": 0.1,
    "output_layer_2": 0.2,
    "self_atten.": 0.15,
    "": 0.25,
}


def _norm(name: str) -> Shapes:
    return {f"{name}.gamma": (HIDDEN,), f"{name}.beta": (HIDDEN,)}


def _encoder(layers: int) -> Shapes:
    """Keys of UER's embedding and encoder."""
    shapes: Shapes = {
        "embedding.word_embedding.weight": (len(vocabulary("bert")), HIDDEN),
        "embedding.position_embedding.weight": (MAX_TOKENS, HIDDEN),
        "embedding.segment_embedding.weight": (3, HIDDEN),
        **_norm("embedding.layer_norm"),
    }
    for i in range(layers):
        layer = f"encoder.transformer.{i}"
        for k in range(3):
            shapes |= _linear(f"{layer}.self_attn.linear_layers.{k}", HIDDEN, HIDDEN)
        shapes |= _linear(f"{layer}.self_attn.final_linear", HIDDEN, HIDDEN)
        shapes |= _norm(f"{layer}.layer_norm_1")
        shapes |= _linear(f"{layer}.feed_forward.linear_1", 2 * HIDDEN, HIDDEN)
        shapes |= _linear(f"{layer}.feed_forward.linear_2", HIDDEN, 2 * HIDDEN)
        shapes |= _norm(f"{layer}.layer_norm_2")
    return shapes


def _classifiers(layers: int, labels: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(layers):
        name = f"classifiers.{i}"
        shapes |= _linear(f"{name}.output_layer_0", STUDENT, HIDDEN)
        for k in range(3):
            shapes |= _linear(f"{name}.self_atten.linear_layers.{k}", STUDENT, STUDENT)
        shapes |= _linear(f"{name}.self_atten.final_linear", STUDENT, STUDENT)
        shapes |= _linear(f"{name}.output_layer_1", STUDENT, STUDENT)
        shapes |= _linear(f"{name}.output_layer_2", labels, STUDENT)
    return shapes


def _targets() -> Shapes:
    """Pre-training heads, which the package stores and never uses."""
    tokens = len(vocabulary("bert"))
    return _linear("target.mlm_linear_2", tokens, HIDDEN) | _linear("target.nsp_linear_2", 2, 2)


def _random(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            tensors[name] = 0.1 * noise + (1.0 if name.endswith("gamma") else 0.0)
        else:
            tensors[name] = noise * next(std for part, std in SPREAD.items() if part in name)
    return tensors


def write_fastbert(
    folder: Path,
    *,
    layout: str = "research",
    layers: int = 4,
    labels: int = 3,
    pooling: str | None = None,
    tokenizer: str | None = "slow",
    noise: bool = False,
    seed: int = 2,
) -> Path:
    """Write a FastBERT checkpoint, UER's config beside it, and return its folder.

    Args:
        layout: "research" (the authors' script) or "pypi" (their package).
        pooling: What config.json says, None for nothing.
        tokenizer: "fast", "slow" or None.
        noise: Add training left-overs and the prefix of parallel training.
    """
    encoder, classifiers = _encoder(layers), _classifiers(layers, labels)
    config: dict[str, object] = {
        "dropout": 0.1,
        "emb_size": HIDDEN,
        "feedforward_size": 2 * HIDDEN,
        "heads_num": HEADS,
        "hidden_size": HIDDEN,
        "layers_num": layers,
    }
    if layout == "pypi":
        encoder = {f"kernel.{name}": shape for name, shape in (encoder | _targets()).items()}
        config |= {"embedding": "bert", "encoder": "bert", "vocab_path": "./vocab.txt"}
    if pooling is not None:
        config["pooling"] = pooling
    tensors = _random(encoder | classifiers, seed)
    if noise:
        tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, folder / "fastbert.bin")
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder, "bert", tokenizer)
    if noise:
        write_noise(folder)
    return folder

"""Small random BERxiT checkpoints (Xin et al., EACL 2021) in the layout that the authors publish.

As in `checkpoints`, names and shapes are spelled out. The authors' model calls its encoder `core`
too, so every tensor of the tree is in the file twice; DistilBERT's layers are there four times.
"""

from __future__ import annotations

from pathlib import Path

import torch

from checkpoints import (
    HEADS,
    HIDDEN,
    Shapes,
    _albert_config,
    _config,
    _linear,
    _norm,
    _old_config,
    _write,
    age_keys,
    albert_shapes,
    bert_shapes,
    random_tensors,
    write_noise,
)
from vocabularies import MAX_TOKENS, vocabulary, write_tokenizer


def distilbert_shapes(layers: int) -> Shapes:
    """Keys of a DistilBERT."""
    name = "distilbert.embeddings"
    shapes: Shapes = {
        f"{name}.word_embeddings.weight": (len(vocabulary("bert")), HIDDEN),
        f"{name}.position_embeddings.weight": (MAX_TOKENS, HIDDEN),
        **_norm(f"{name}.LayerNorm", HIDDEN),
    }
    for i in range(layers):
        layer = f"distilbert.transformer.layer.{i}"
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            shapes |= _linear(f"{layer}.attention.{part}", HIDDEN, HIDDEN)
        shapes |= _norm(f"{layer}.sa_layer_norm", HIDDEN)
        shapes |= _linear(f"{layer}.ffn.lin1", 2 * HIDDEN, HIDDEN)
        shapes |= _linear(f"{layer}.ffn.lin2", HIDDEN, 2 * HIDDEN)
        shapes |= _norm(f"{layer}.output_layer_norm", HIDDEN)
    return shapes


def _backbone(backbone: str, layers: int, groups: int, inner: int) -> tuple[Shapes, dict]:
    """Keys and dimensions of the encoder."""
    if backbone == "albert":
        return albert_shapes(groups, inner), _albert_config(layers, HIDDEN, groups, inner)
    if backbone == "distilbert":
        config = {
            "activation": "gelu",
            "dim": HIDDEN,
            "hidden_dim": 2 * HIDDEN,
            "max_position_embeddings": MAX_TOKENS,
            "n_heads": HEADS,
            "n_layers": layers,
            "sinusoidal_pos_embds": False,
            "tie_weights_": True,
            "vocab_size": len(vocabulary("bert")),
        }
        return distilbert_shapes(layers), config
    return bert_shapes(backbone, layers), _config(backbone, layers, HIDDEN)


def _heads(backbone: str, layers: int, labels: int) -> Shapes:
    """Keys of the highways, the main head, and the classifier that learns to exit."""
    distil = backbone == "distilbert"
    encoder = f"{backbone}.transformer" if distil else f"{backbone}.encoder"
    shapes = _linear("classifier", labels, HIDDEN)
    for i in range(layers):
        name = f"{encoder}.highway.{i}"
        pooler = f"{name}.pre_classifier" if distil else f"{name}.pooler.dense"
        shapes |= _linear(pooler, HIDDEN, HIDDEN) | _linear(f"{name}.classifier", labels, HIDDEN)
    if distil:
        shapes |= _linear("pre_classifier", HIDDEN, HIDDEN)
    if backbone != "albert":
        shapes |= _linear(f"{encoder}.lte_classifier", 1, HIDDEN)
    return shapes


def _twice(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Add the tree's second name, and DistilBERT's second name of its layers."""
    if prefix == "distilbert":
        again = {k.replace(".transformer.", ".encoder."): t for k, t in tensors.items()}
        tensors = tensors | again
    tree = f"{prefix}."
    return tensors | {
        "core." + k.removeprefix(tree): t for k, t in tensors.items() if k.startswith(tree)
    }


def write_berxit(
    folder: Path,
    *,
    backbone: str = "bert",
    divide: str = "alternate",
    layers: int = 4,
    labels: int = 3,
    groups: int = 1,
    inner: int = 1,
    tokenizer: str | None = "slow",
    noise: bool = False,
    seed: int = 1,
) -> Path:
    """Write a BERxiT checkpoint and return its folder.

    Args:
        backbone: "bert", "roberta", "albert" or "distilbert".
        divide: The training routine; one that ends in "-lte" has trained the exit classifier.
        labels: Number of labels; 1 makes a regression.
        groups: ALBERT's `num_hidden_groups`.
        inner: ALBERT's `inner_group_num`.
        tokenizer: "fast", "slow" or None.
        noise: Add training left-overs, old key names and a `position_ids` buffer.
    """
    shapes, config = _backbone(backbone, layers, groups, inner)
    tensors = random_tensors(shapes | _heads(backbone, layers, labels), HIDDEN, seed)
    for name in tensors:  # DistilBERT's queries, keys and poolers: narrow as those of the others
        if any(part in name for part in ("q_lin.weight", "k_lin.weight", "pre_classifier.weight")):
            tensors[name] *= 0.4
    if noise:
        tensors = age_keys(tensors, backbone)
    config |= _old_config(labels) | {"divide": divide}
    _write(folder, _twice(tensors, backbone), config, "pytorch_model.bin")
    write_tokenizer(folder, "bert" if backbone == "distilbert" else backbone, tokenizer)
    if noise:
        write_noise(folder)
    return folder

"""Small random SENTEE/TOKEE checkpoints: the state_dict of the authors' module, and a config."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from checkpoints import HEADS, HIDDEN, bert_shapes, random_tensors
from vocabularies import MAX_TOKENS, vocabulary, write_tokenizer


def write_sentee(
    folder: Path,
    *,
    layers: int = 4,
    labels: int = 5,
    keep_norm_same: int | None = None,
    copy_wordpiece: str | None = None,
    tokenizer: str | None = None,
    spread: float = 1.0,
    seed: int = 1,
    **config: object,
) -> Path:
    """Write the converted checkpoint and return its folder.

    Args:
        keep_norm_same: 0 or 1, which config.json then says; None leaves it out.
        copy_wordpiece: "all" or "first", likewise.
        spread: Factor on the classifiers' weights; larger ones are surer.
    """
    shapes = {"ptm_" + k.replace("bert.", "encoder.", 1): s for k, s in _bert(layers).items()}
    for index in range(layers):
        name = f"classfiers.{index}.w"  # the authors' spelling
        shapes |= {f"{name}.weight": (labels, HIDDEN), f"{name}.bias": (labels,)}
    tensors = random_tensors(shapes, HIDDEN, seed)
    for name, tensor in tensors.items():
        if name.startswith("classfiers") and name.endswith("weight"):
            tensor.mul_(2 * spread)
    settings: dict[str, object] = {
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": MAX_TOKENS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "type_vocab_size": 2,
        "vocab_size": len(vocabulary("bert")),
        "id2label": {str(i): f"TAG-{i}" for i in range(labels)},
    }
    if keep_norm_same is not None:
        settings["keep_norm_same"] = keep_norm_same
    if copy_wordpiece is not None:
        settings["copy_wordpiece"] = copy_wordpiece
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings | config))
    torch.save(tensors, folder / "pytorch_model.bin")
    write_tokenizer(folder, "bert", tokenizer)
    return folder


def _bert(layers: int) -> dict[str, tuple[int, ...]]:
    return bert_shapes("bert", layers)


def word_rows(count: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Rows of token ids with their word maps: words of one to four pieces between [CLS], [SEP]."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        length = int(rng.integers(1, MAX_TOKENS - 8))
        ids, words = [2], [-1]
        while len(ids) < length:
            start, pieces = len(ids), int(rng.integers(1, 5))
            ids += rng.integers(5, len(vocabulary("bert")) - 1, pieces).tolist()
            words += [start] * pieces
        rows.append(([*ids, 3], [*words, -1]))
    return rows

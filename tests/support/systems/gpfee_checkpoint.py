"""Small random Past-Future checkpoints (Liao et al., NAACL 2021) in the layout the authors publish.

As in `checkpoints`, names and shapes are spelled out. Stacked weights are [layer, in, out], unlike
every other linear weight.
"""

from __future__ import annotations

from pathlib import Path

from checkpoints import (
    HIDDEN,
    _albert_config,
    _config,
    _linear,
    _new_config,
    _write,
    age_keys,
    albert_shapes,
    bert_shapes,
    random_tensors,
    write_noise,
)
from vocabularies import write_tokenizer

# Sums over all layers, doubled: narrower than elsewhere, so that entropies are not all near zero.
SHRUNK = 0.25


def write_gpfee(
    folder: Path,
    *,
    backbone: str = "bert",
    layers: int = 4,
    labels: int = 3,
    groups: int = 1,
    inner: int = 1,
    tokenizer: str | None = "slow",
    noise: bool = False,
    hidden: int = HIDDEN,
    seed: int = 1,
) -> Path:
    """Write a Past-Future checkpoint and return its folder.

    Args:
        backbone: "bert", "roberta" or "albert".
        labels: Number of labels; 1 makes a regression.
        groups: ALBERT's `num_hidden_groups`.
        inner: ALBERT's `inner_group_num`.
        tokenizer: "fast", "slow" or None.
        noise: Add training left-overs, old key names and a `position_ids` buffer.
    """
    if backbone == "albert":
        shapes = albert_shapes(groups, inner, hidden)
        config = _albert_config(layers, hidden, groups, inner)
    else:
        shapes, config = bert_shapes(backbone, layers, hidden), _config(backbone, layers, hidden)
        for i in range(layers):
            shapes |= _linear(f"{backbone}.poolers.{i}.dense", hidden, hidden)
    shapes |= {
        f"{backbone}.pred_layer.weight": (layers, hidden, hidden),
        f"{backbone}.pred_layer.bias": (layers, hidden),
        "classifiers.weight": (layers, hidden, 2 * labels),
        "classifiers.bias": (layers, 2 * labels),
        **_linear("classifiers.gate_proj", labels, labels),
    }
    tensors = random_tensors(shapes, hidden, seed)
    tensors["classifiers.weight"] *= SHRUNK
    name = {"bert": "Bert", "roberta": "Roberta", "albert": "Albert"}[backbone]
    config |= _new_config(backbone, f"{name}ForSequenceClassification", labels, "")
    del config["transformers_version"]  # 2.5.1 does not write it
    config["pad_token_id"] = 0  # and writes its default, also for RoBERTa
    _write(folder, age_keys(tensors, backbone) if noise else tensors, config, "pytorch_model.bin")
    write_tokenizer(folder, backbone, tokenizer)
    if noise:
        write_noise(folder)
    return folder

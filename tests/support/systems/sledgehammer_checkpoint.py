"""Small random folders of The Right Tool for the Job, as allennlp 0.8 leaves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from checkpoints import bert_shapes, random_tensors, write_hostile_pickle
from vocabularies import write_tokenizer

HIDDEN = 128  # two heads of 64: their number is in no file


def write_sledgehammer(
    folder: Path,
    *,
    exits: Sequence[int] = (0, 2, 4),
    labels: Sequence[str] = ("neg", "neutral", "pos"),
    chained: bool = False,
    temperature: str | None = None,
    layers: int | None = None,
    tokenizer: str | None = None,
    noise: bool = False,
    seed: int = 1,
) -> Path:
    """Write a checkpoint (Schwartz et al., ACL 2020) and return its folder.

    Args:
        exits: 0-based layers, as in `layer_indices`.
        labels: The lines of vocabulary/labels.txt.
        chained: Whether classifiers read the logits before them (`add_previous_layer_logits`).
        temperature: `scaling_temperature` of config.json, such as "1.5_1_0.8".
        layers: Layers of the encoder; the authors' code keeps those up to the deepest exit.
        tokenizer: "fast", "slow" or None.
        noise: Add training left-overs beside best.th, and `module.` before every key.
    """
    classes = len(labels)
    shapes = bert_shapes("bert_model", layers or exits[-1] + 1, HIDDEN)
    for k in range(len(exits)):
        inputs = HIDDEN + k * classes * chained
        shapes[f"_classification_layers.{k}.weight"] = (classes, inputs)
        shapes[f"_classification_layers.{k}.bias"] = (classes,)
    tensors = random_tensors(shapes, HIDDEN, seed)
    generator = torch.Generator().manual_seed(seed)
    for k, layer in enumerate(exits):
        weights = torch.randn(layer + 1, generator=generator)
        tensors[f"_sum_weights.{k}"] = weights / weights.norm()
        tensors[f"_classification_layers.{k}.weight"] *= 2.5
    model = {
        "type": "multiloss_bert_for_classification",
        "bert_model": "bert-base-uncased",
        "layer_indices": "_".join(map(str, exits)),
        "add_previous_layer_logits": chained,
    }
    if temperature is not None:
        model["scaling_temperature"] = temperature
    config = {"dataset_reader": {"type": "bert_text_classification"}, "model": model, "trainer": {}}
    (folder / "vocabulary").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    (folder / "vocabulary" / "labels.txt").write_text("\n".join(labels))
    (folder / "vocabulary" / "non_padded_namespaces.txt").write_text("*labels\n*tags")
    if noise:
        for name in ("model_state_epoch_0.th", "training_state_epoch_0.th"):
            write_hostile_pickle(folder / name, folder / "pwned")
        tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save(tensors, folder / "best.th")
    write_tokenizer(folder, "bert", tokenizer)
    return folder

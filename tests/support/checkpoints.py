"""Small random checkpoints in the layouts that the authors of DeeBERT and PABEE publish.

Key names and shapes are spelled out here, not taken from a model class, so that the exporter is
tested against the published layouts and not against its own idea of them. Weights are large
enough for the exits of one model to disagree: thresholds then split rows over several layers.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch
from safetensors.torch import save_file

from vocabularies import MAX_TOKENS, vocabulary, write_tokenizer

HIDDEN, HEADS, EMBEDDING = 32, 4, 16
Shapes = dict[str, tuple[int, ...]]


# --- key names and shapes -----------------------------------------------------------------------


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _embeddings(prefix: str, backbone: str, size: int) -> Shapes:
    roberta = backbone == "roberta"
    name = f"{prefix}.embeddings"
    return {
        f"{name}.word_embeddings.weight": (len(vocabulary(backbone)), size),
        f"{name}.position_embeddings.weight": (MAX_TOKENS + (2 if roberta else 0), size),
        f"{name}.token_type_embeddings.weight": (1 if roberta else 2, size),
        **_norm(f"{name}.LayerNorm", size),
    }


def bert_shapes(prefix: str, layers: int, hidden: int = HIDDEN) -> Shapes:
    """Keys of a BERT or RoBERTa backbone with its pooler (`prefix` names which)."""
    shapes = _embeddings(prefix, prefix, hidden)
    for i in range(layers):
        layer = f"{prefix}.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            shapes |= _linear(f"{layer}.attention.self.{name}", hidden, hidden)
        shapes |= _linear(f"{layer}.attention.output.dense", hidden, hidden)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm", hidden)
        shapes |= _linear(f"{layer}.intermediate.dense", 2 * hidden, hidden)
        shapes |= _linear(f"{layer}.output.dense", hidden, 2 * hidden)
        shapes |= _norm(f"{layer}.output.LayerNorm", hidden)
    return shapes | _linear(f"{prefix}.pooler.dense", hidden, hidden)


def albert_shapes(groups: int, inner: int, hidden: int = HIDDEN) -> Shapes:
    """Keys of an ALBERT backbone with `groups` groups of `inner` layers each."""
    shapes = _embeddings("albert", "albert", EMBEDDING)
    shapes |= _linear("albert.encoder.embedding_hidden_mapping_in", hidden, EMBEDDING)
    for group in range(groups):
        for k in range(inner):
            layer = f"albert.encoder.albert_layer_groups.{group}.albert_layers.{k}"
            for name in ("query", "key", "value", "dense"):
                shapes |= _linear(f"{layer}.attention.{name}", hidden, hidden)
            shapes |= _norm(f"{layer}.attention.LayerNorm", hidden)
            shapes |= _linear(f"{layer}.ffn", 2 * hidden, hidden)
            shapes |= _linear(f"{layer}.ffn_output", hidden, 2 * hidden)
            shapes |= _norm(f"{layer}.full_layer_layer_norm", hidden)
    return shapes | _linear("albert.pooler", hidden, hidden)


# Standard deviation of a weight whose name holds the key, first match wins. Wide embeddings and
# values make rows differ, narrow queries keep rounding errors small, narrow poolers keep tanh
# off its flat ends.
SPREAD = {
    "word_embeddings": 1.0,
    "query": 0.2,
    "key": 0.2,
    "attention": 0.4,
    "pooler": 0.15,
    "classifier": 0.6,
    "": 0.2,
}


def random_tensors(shapes: Shapes, hidden: int, seed: int) -> dict[str, torch.Tensor]:
    """Seeded float32 weights: norms near one, everything else wide enough to disagree."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith(".bias"):
            tensors[name] = 0.1 * noise
        elif len(shape) == 1:
            tensors[name] = 1 + 0.1 * noise
        else:
            std = next(std for part, std in SPREAD.items() if part in name)
            fan_in = 1.0 if "_embeddings" in name else (HIDDEN / hidden) ** 0.5
            tensors[name] = noise * std * fan_in
    return tensors


# --- configurations -----------------------------------------------------------------------------


def _config(backbone: str, layers: int, hidden: int) -> dict[str, object]:
    roberta = backbone == "roberta"
    return {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": 2 * hidden,
        "layer_norm_eps": 1e-5 if roberta else 1e-12,
        "max_position_embeddings": MAX_TOKENS + (2 if roberta else 0),
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "type_vocab_size": 1 if roberta else 2,
        "vocab_size": len(vocabulary(backbone)),
    }


def _old_config(labels: int) -> dict[str, object]:
    """What transformers 2.1.1 adds; it names neither model type nor version."""
    return {
        "finetuning_task": "sts-b" if labels == 1 else "mrpc",
        "num_labels": labels,
        "output_attentions": False,
        "output_hidden_states": False,
        "pruned_heads": {},
        "torchscript": False,
        "use_bfloat16": False,
    }


def _new_config(backbone: str, architecture: str, labels: int, version: str) -> dict[str, object]:
    pad, first, last = (1, 0, 2) if backbone == "roberta" else (0, 2, 3)
    config: dict[str, object] = {
        "architectures": [architecture],
        "model_type": backbone,
        "pad_token_id": pad,
        "bos_token_id": first,
        "eos_token_id": last,
        "transformers_version": version,
    }
    if labels != 2:  # transformers leaves the two-label default out
        config["id2label"] = {str(i): f"LABEL_{i}" for i in range(labels)}
        config["label2id"] = {f"LABEL_{i}": i for i in range(labels)}
    return config


def _albert_config(layers: int, hidden: int, groups: int, inner: int) -> dict[str, object]:
    dims = {"embedding_size": EMBEDDING, "num_hidden_groups": groups, "inner_group_num": inner}
    return _config("albert", layers, hidden) | dims | {"hidden_act": "gelu_new"}


# --- files --------------------------------------------------------------------------------------


class Touch:
    """Unpickling it runs code: the file at `path` appears."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def write_hostile_pickle(path: Path, touched: Path) -> None:
    """Write a pickle to `path` that creates the file `touched` when it is loaded."""
    path.write_bytes(pickle.dumps({"args": Touch(touched)}))


def write_noise(folder: Path) -> None:
    """What training leaves beside the weights; loading any of it creates `folder/pwned`."""
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin"):
        write_hostile_pickle(folder / name, folder / "pwned")


def age_keys(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The same tensors as older files name them: gamma, beta and a `position_ids` buffer."""
    aged = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    positions = tensors[f"{prefix}.embeddings.position_embeddings.weight"].shape[0]
    return aged | {f"{prefix}.embeddings.position_ids": torch.arange(positions)[None]}


def _write(
    folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, object], weights: str
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    if weights == "model.safetensors":
        save_file(tensors, folder / weights, metadata={"format": "pt"})
    else:
        torch.save(tensors, folder / weights)
    return folder


def write_deebert(
    folder: Path,
    *,
    backbone: str = "bert",
    layout: str = "hf",
    layers: int = 5,
    labels: int = 3,
    tokenizer: str | None = "slow",
    noise: bool = False,
    hidden: int = HIDDEN,
    seed: int = 1,
) -> Path:
    """Write a DeeBERT checkpoint (Xin et al., ACL 2020) and return its folder.

    Args:
        backbone: "bert" or "roberta".
        layout: "castorini" (the authors' repository) or "hf" (transformers' research project).
        tokenizer: "fast", "slow" or None.
        noise: Add training left-overs, old key names and a `position_ids` buffer.
    """
    shapes = bert_shapes(backbone, layers, hidden) | _linear("classifier", labels, hidden)
    for i in range(layers):
        shapes |= _linear(f"{backbone}.encoder.highway.{i}.pooler.dense", hidden, hidden)
        shapes |= _linear(f"{backbone}.encoder.highway.{i}.classifier", labels, hidden)
    tensors = random_tensors(shapes, hidden, seed)
    config = _config(backbone, layers, hidden)
    if layout == "castorini":
        config, weights = config | _old_config(labels), "pytorch_model.bin"
    else:
        name = {"bert": "DeeBert", "roberta": "DeeRoberta"}[backbone]
        config |= _new_config(backbone, f"{name}ForSequenceClassification", labels, "4.38.2")
        weights = "model.safetensors"
    _write(folder, age_keys(tensors, backbone) if noise else tensors, config, weights)
    write_tokenizer(folder, backbone, tokenizer)
    if noise:
        write_noise(folder)
    return folder


def write_pabee(
    folder: Path,
    *,
    backbone: str = "bert",
    layout: str = "safetensors",
    layers: int = 6,
    labels: int = 2,
    groups: int = 1,
    inner: int = 1,
    tokenizer: str | None = "slow",
    noise: bool = False,
    hidden: int = HIDDEN,
    seed: int = 1,
) -> Path:
    """Write a PABEE checkpoint (Zhou et al., NeurIPS 2020) and return its folder.

    Args:
        backbone: "bert" or "albert".
        layout: "safetensors", "bin", or "original" (.bin, and `architectures` of a plain model).
        labels: Number of labels; 1 makes a regression.
        groups: ALBERT's `num_hidden_groups`.
        inner: ALBERT's `inner_group_num`.
        tokenizer: "fast", "slow" or None.
        noise: Add training left-overs, old key names and a `position_ids` buffer.
    """
    albert = backbone == "albert"
    if albert:
        shapes = albert_shapes(groups, inner, hidden)
        config = _albert_config(layers, hidden, groups, inner)
    else:
        shapes, config = bert_shapes("bert", layers, hidden), _config("bert", layers, hidden)
    for i in range(layers):
        shapes |= _linear(f"classifiers.{i}", labels, hidden)
    tensors = random_tensors(shapes, hidden, seed)
    name = {"bert": "Bert", "albert": "Albert"}[backbone] + "ForSequenceClassification"
    if layout != "original":
        name += "WithPabee"
    config |= _new_config(backbone, name, labels, "4.30.0")
    weights = "model.safetensors" if layout == "safetensors" else "pytorch_model.bin"
    _write(folder, age_keys(tensors, backbone) if noise else tensors, config, weights)
    write_tokenizer(folder, backbone, tokenizer)
    if noise:
        write_noise(folder)
    return folder

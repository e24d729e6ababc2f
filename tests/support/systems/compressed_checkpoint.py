"""Small random checkpoints of compressed BERTs: Theseus, TinyBERT, pruned layer by layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from checkpoints import HIDDEN, Shapes, bert_shapes, random_tensors, write_noise
from vocabularies import MAX_TOKENS, vocabulary, write_tokenizer

HEADS, NEURONS = 4, 2 * HIDDEN
HEAD_SIZE = HIDDEN // HEADS


def base_config(backbone: str, layers: int) -> dict[str, object]:
    """What every config.json has, as the first versions of transformers write it."""
    roberta = backbone == "roberta"
    return {
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "intermediate_size": NEURONS,
        "layer_norm_eps": 1e-5 if roberta else 1e-12,
        "max_position_embeddings": MAX_TOKENS + (2 if roberta else 0),
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "pad_token_id": 1 if roberta else 0,
        "type_vocab_size": 1 if roberta else 2,
        "vocab_size": len(vocabulary(backbone)),
    }


def head(backbone: str, architecture: str, labels: int) -> Shapes:
    """Keys of the head that `architecture` has behind the encoder, beside the pooler."""
    if architecture == "QuestionAnswering":
        return {"qa_outputs.weight": (2, HIDDEN), "qa_outputs.bias": (2,)}
    if backbone == "roberta" and architecture == "SequenceClassification":
        return {
            "classifier.dense.weight": (HIDDEN, HIDDEN),
            "classifier.dense.bias": (HIDDEN,),
            "classifier.out_proj.weight": (labels, HIDDEN),
            "classifier.out_proj.bias": (labels,),
        }
    return {"classifier.weight": (labels, HIDDEN), "classifier.bias": (labels,)}


def named(backbone: str, architecture: str, labels: int) -> dict[str, object]:
    """What newer versions add to config.json."""
    name = {"bert": "Bert", "roberta": "Roberta"}[backbone]
    return {
        "architectures": [f"{name}For{architecture}"],
        "model_type": backbone,
        "transformers_version": "4.9.0",
        "id2label": {str(i): f"LABEL_{i}" for i in range(labels)},
        "label2id": {f"LABEL_{i}": i for i in range(labels)},
    }


def _save(
    folder: Path,
    backbone: str,
    tensors: dict[str, Tensor],
    config: dict[str, object],
    noise: bool,
    tokenizer: str | None = "slow",
) -> Path:
    folder.mkdir(parents=True)
    if noise:
        positions = torch.arange(MAX_TOKENS)[None]
        tensors = tensors | {f"{backbone}.embeddings.position_ids": positions}
        tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
        write_noise(folder)
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder, backbone, tokenizer)
    return folder


def write_theseus(
    folder: Path,
    *,
    layers: int = 6,
    successors: int = 3,
    labels: int = 3,
    noise: bool = False,
    seed: int = 1,
    **config: object,
) -> Path:
    """Write what training BERT-of-Theseus (Xu et al., 2020) leaves: both models, one pooler."""
    shapes = bert_shapes("bert", layers) | {
        name.replace("encoder.layer", "encoder.scc_layer"): shape
        for name, shape in bert_shapes("bert", successors).items()
    }
    tensors = random_tensors(shapes | head("bert", "SequenceClassification", labels), HIDDEN, seed)
    settings = {"num_labels": labels, "finetuning_task": "mnli", "pruned_heads": {}}
    return _save(folder, "bert", tensors, base_config("bert", layers) | settings | config, noise)


def write_tinybert(
    folder: Path,
    *,
    layers: int = 3,
    labels: int = 3,
    version: int = 2,
    noise: bool = False,
    seed: int = 1,
    **config: object,
) -> Path:
    """Write a TinyBERT of a task (Jiao et al., 2020).

    Args:
        version: 1 has one layer that fits the teacher's width, 2 has one a hidden state.
    """
    fits = ["fit_dense"] if version == 1 else [f"fit_denses.{i}" for i in range(layers + 1)]
    shapes = bert_shapes("bert", layers) | head("bert", "SequenceClassification", labels)
    for fit in fits:
        shapes |= {f"{fit}.weight": (48, HIDDEN), f"{fit}.bias": (48,)}
    if version == 1:
        shapes |= {"cls.predictions.bias": (len(vocabulary("bert")),)}
    settings = {"pre_trained": "", "training": "", "emb_size": HIDDEN, "cell": {}, "structure": []}
    tensors = random_tensors(shapes, HIDDEN, seed)
    return _save(folder, "bert", tensors, base_config("bert", layers) | settings | config, noise)


def write_pruned(
    folder: Path,
    *,
    backbone: str = "bert",
    architecture: str = "SequenceClassification",
    heads: Sequence[int] = (2, 4, 1),
    neurons: Sequence[int] = (40, 64, 7),
    head_size: int = HEAD_SIZE,
    labels: int = 3,
    tokenizer: str | None = "slow",
    noise: bool = False,
    seed: int = 1,
    **config: object,
) -> Path:
    """Write a BERT or RoBERTa with so many heads and neurons in each layer.

    The config keeps what the model had before it was pruned, unless `config` says otherwise.
    """
    shapes = bert_shapes(backbone, len(heads))
    for index, (count, units) in enumerate(zip(heads, neurons, strict=True)):
        layer, rows = f"{backbone}.encoder.layer.{index}", count * head_size
        for name in ("query", "key", "value"):
            shapes[f"{layer}.attention.self.{name}.weight"] = (rows, HIDDEN)
            shapes[f"{layer}.attention.self.{name}.bias"] = (rows,)
        shapes[f"{layer}.attention.output.dense.weight"] = (HIDDEN, rows)
        shapes[f"{layer}.intermediate.dense.weight"] = (units, HIDDEN)
        shapes[f"{layer}.intermediate.dense.bias"] = (units,)
        shapes[f"{layer}.output.dense.weight"] = (HIDDEN, units)
    tensors = random_tensors(shapes | head(backbone, architecture, labels), HIDDEN, seed)
    settings = base_config(backbone, len(heads)) | named(backbone, architecture, labels) | config
    return _save(folder, backbone, tensors, settings, noise, tokenizer)


def pruned_heads(heads: Sequence[int]) -> dict[str, list[int]]:
    """What transformers wrote into config.json when it removed the first heads of each layer."""
    return {str(i): list(range(HEADS - kept)) for i, kept in enumerate(heads) if kept < HEADS}

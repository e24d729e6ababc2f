"""What pages of the documentation name: tiny checkpoints and texts under the same names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path


def built(module: str, function: str, **settings: object) -> Callable[[Path], object]:
    """A tiny checkpoint from one of the builders that other tests use."""
    return lambda folder: getattr(importlib.import_module(module), function)(folder, **settings)


def plain(layers: int) -> Callable[[Path], object]:
    """A BERT with one exit."""
    return built(
        "systems.compressed_checkpoint", "write_pruned", heads=(4,) * layers, neurons=(64,) * layers
    )


def write_backbone(folder: Path) -> None:
    """A BERT without a head, and its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    from vocabularies import vocabulary, write_tokenizer

    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = BertConfig(vocab_size=len(vocabulary("bert")), num_hidden_layers=3, **sizes)
    BertModel(config).save_pretrained(folder)
    write_tokenizer(folder, "bert", "fast")


# Word of a command -> what makes it.
STAND_INS: dict[str, Callable[[Path], object]] = {
    "./my-deebert": built("checkpoints", "write_deebert", tokenizer="fast"),
    "./my-pabee": built("checkpoints", "write_pabee", tokenizer="fast"),
    "./my-berxit": built("systems.berxit_checkpoint", "write_berxit"),
    "./my-elasticbert": built("systems.elasticbert_checkpoint", "write_elasticbert"),
    "./my-fastbert": built("systems.fastbert_checkpoint", "write_fastbert"),
    "./my-gpfee": built("systems.gpfee_checkpoint", "write_gpfee"),
    "./my-elbert": built("systems.elbert_checkpoint", "write_elbert", tokenizer="slow"),
    "./my-cascade": built("systems.cascadebert_checkpoint", "write_cascadebert"),
    "./my-albert-act": built("systems.act_model", "write_act"),
    "./checkpoint": built("systems.sentee_checkpoint", "write_sentee", keep_norm_same=1),
    "./serialization_dir": built(
        "systems.sledgehammer_checkpoint", "write_sledgehammer", exits=(0, 1, 2, 4)
    ),
    "bert-base-uncased": write_backbone,
    "./bert-base-uncased": write_backbone,
    "textattack/bert-base-uncased-SST-2": plain(3),
    "./my-model": plain(6),
    "./my-power-bert": plain(12),
    "./my-layerdrop": plain(12),
    "./my-bert": plain(12),
    "./my-dynabert": plain(4),
    "./my-masked-bert": built("systems.quantized_checkpoint", "write_masked"),
    "./my-qdqbert": built("systems.quantized_checkpoint", "write_qdqbert"),
    "./my-dynamic": built("systems.quantized_checkpoint", "write_dynamic"),
    "./my-modelopt": built("systems.quantized_checkpoint", "write_modelopt"),
    "./output/retrained.hdf5": lambda path: built(
        "systems.power_checkpoint", "write_power", layers=12, logged=None
    )(path.parent),
}
TEXTS = {
    f"{name}.csv": "text,label\n"
    + "".join(
        f"the {subject} is {word} and the {other} {ending},{label}\n"
        for subject in subjects.split()
        for other in "film movie story name city".split()
        for word, label in (("good", 1), ("bad", 0), ("not good", 0))
        for ending in ("is not", "was great")
    )
    for name, subjects in (
        ("train", "film movie story name city"),
        ("heldout", "film"),
        ("test", "movie"),
        ("texts", "name"),
    )
}


def grow(checkpoint: Path) -> None:
    """Give a BERT the ids and positions of a large one, so that what is printed is in range."""
    import json

    import torch
    from safetensors.torch import load_file, save_file

    weights, pickled = checkpoint / "model.safetensors", checkpoint / "pytorch_model.bin"
    tensors = load_file(weights) if weights.exists() else torch.load(pickled, weights_only=True)
    config = json.loads((checkpoint / "config.json").read_text())
    for kind, rows, field in (
        ("word", 3000, "vocab_size"),
        ("position", 512, "max_position_embeddings"),
    ):
        (name,) = (each for each in tensors if each.endswith(f".{kind}_embeddings.weight"))
        more = torch.randn(rows - len(tensors[name]), tensors[name].shape[1])
        tensors[name] = torch.cat([tensors[name], more])
        config[field] = rows
    save_file(tensors, weights, metadata={"format": "pt"})
    pickled.unlink(missing_ok=True)
    (checkpoint / "config.json").write_text(json.dumps(config))

"""Small random ELBERT checkpoints as the authors' repository saves them (transformers 2.7)."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from checkpoints import EMBEDDING, HEADS, HIDDEN, Shapes, albert_shapes, random_tensors, write_noise
from vocabularies import MAX_TOKENS, vocabulary, write_tokenizer

SETTINGS: dict[str, object] = {
    "thres_name": "bias_1",
    "exit_thres": 0.1,
    "cnt_thres": 8.0,  # numbers may be floats
    "margin": 0.0,
    "num_exit_layers": 1,
    "use_out_pooler": False,
    "pooler_input": "cls",
    "use_fc2": False,
    "fc_size1": 24,
    "fc_size2": 12,
    "kd_enable": False,
    "weight_name": "equal",
}


def elbert_shapes(settings: dict[str, object], layers: int, labels: int) -> Shapes:
    """Keys of the backbone and of the exits that config.json asks for."""
    shapes = albert_shapes(1, 1)
    count = int(settings["num_exit_layers"])
    single = "albert.encoder.exit_out_layer"
    heads = [single] if count == 1 else [f"{single}s.{group}" for group in range(count)]
    width, inner = int(settings["fc_size1"]), int(settings["fc_size2"])
    for head in heads:
        matrices = {"pooler": (width, HIDDEN)} if not settings["use_out_pooler"] else {}
        if settings["use_fc2"]:
            matrices |= {"classifier1": (inner, width), "classifier2": (labels, inner)}
        else:
            matrices |= {"classifier": (labels, width)}
        for name, shape in matrices.items():
            shapes |= {f"{head}.{name}.weight": shape, f"{head}.{name}.bias": shape[:1]}
    return shapes


def write_elbert(
    folder: Path,
    *,
    layers: int = 4,
    labels: int = 2,
    tokenizer: str | None = None,
    noise: bool = False,
    seed: int = 1,
    **settings: object,
) -> Path:
    """Write an ELBERT checkpoint (Xie et al., 2021) and return its folder.

    Args:
        tokenizer: "fast", "slow" or None.
        noise: Add training left-overs, a `position_ids` buffer and `module.` before every key.
        settings: Exit parameters in config.json, over `SETTINGS`; None leaves one out.
    """
    chosen = SETTINGS | settings
    if chosen["use_out_pooler"]:
        chosen["fc_size1"] = HIDDEN
    tensors = random_tensors(elbert_shapes(chosen, layers, labels), HIDDEN, seed)
    config = {
        "architectures": ["AlbertExitForCls"],
        "model_type": "albert",
        "embedding_size": EMBEDDING,
        "hidden_act": "gelu",
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
        **{name: value for name, value in chosen.items() if value is not None},
    }
    if labels != 2:
        config["id2label"] = {str(i): f"LABEL_{i}" for i in range(labels)}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    if noise:
        write_noise(folder)
        tensors["albert.embeddings.position_ids"] = torch.arange(MAX_TOKENS)[None]
        tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    write_tokenizer(folder, "albert", tokenizer)
    return folder

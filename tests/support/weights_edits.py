"""Read and rewrite the weights and config.json of a checkpoint, whatever kind of file it has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]
SUFFIXES = (".safetensors", ".bin", ".th")


def weights_file(checkpoint: Path) -> Path:
    """The one file of weights."""
    [found] = [
        file
        for file in checkpoint.iterdir()
        if file.suffix in SUFFIXES and file.name != "training_args.bin"
    ]
    return found


def read_weights(checkpoint: Path) -> Tensors:
    file = weights_file(checkpoint)
    safe = file.suffix == ".safetensors"
    return load_file(file) if safe else torch.load(file, weights_only=True)


def write_weights(checkpoint: Path, tensors: Mapping[str, Any]) -> Path:
    file = weights_file(checkpoint)
    if file.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    else:
        torch.save(dict(tensors), file)
    return checkpoint


def add_settings(checkpoint: Path, **settings: Any) -> Path:
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return checkpoint

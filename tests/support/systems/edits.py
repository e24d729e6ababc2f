"""Changes to a checkpoint on disk, and which formats then take it for theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import FORMATS, choose_format

Tensors = dict[str, Tensor]


def rewrite(
    checkpoint: Path, change: Callable[[Tensors], Tensors] = dict, **config: object
) -> Path:
    """Change the tensors, and entries of config.json, where None removes one."""
    [file] = [file for file in checkpoint.glob("*.bin") if file.name != "training_args.bin"]
    torch.save(change(torch.load(file, weights_only=True)), file)
    path = checkpoint / "config.json"
    entries = json.loads(path.read_text()) | config
    path.write_text(json.dumps({k: v for k, v in entries.items() if v is not None}))
    return checkpoint


def claims(checkpoint: Path) -> list[str]:
    """The formats, plain ones aside, that take a checkpoint for theirs; auto takes the first."""
    opened = open_checkpoint(checkpoint)
    found = [each.name for each in FORMATS if each.detect(opened.shapes, opened.config)]
    assert choose_format("auto", opened.name, opened.shapes, opened.config).name == found[0]
    return [name for name in found if name != "plain"]

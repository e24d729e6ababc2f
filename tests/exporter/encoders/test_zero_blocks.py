"""Heads and neurons that are zero as a whole are left out, and no answer changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.encoders.zero_blocks import drop_zero_blocks
from effbert.exporter.formats import plain, pruned
from effbert.exporter.models.load_options import LoadOptions
from systems.compressed_checkpoint import HEAD_SIZE, write_pruned
from systems.compressed_reference import Encoder, torch_difference
from systems.edits import Tensors, rewrite
from vocabularies import random_rows

ATTENTION, OUTPUT = "encoder.layer.1.attention", "encoder.layer.0.output.dense.weight"
INNER = "encoder.layer.0.intermediate.dense.weight"


def with_zero_blocks(tensors: Tensors) -> Tensors:
    for name, tensor in tensors.items():
        if name.endswith(f"{ATTENTION}.self.value.weight"):
            tensor[:HEAD_SIZE] = 0  # a constant head: its bias is left
        elif name.endswith(f"{ATTENTION}.output.dense.weight"):
            tensor[:, 2 * HEAD_SIZE : 3 * HEAD_SIZE] = 0  # nobody reads it
        elif name.endswith(f"{ATTENTION}.self.query.weight"):
            tensor[3 * HEAD_SIZE :] = 0  # it looks at keys still
        elif name.endswith(INNER):
            tensor[[3, 5]] = 0
        elif name.endswith(OUTPUT):
            tensor[:, 7] = 0
    return tensors


def widths(model: Any) -> list[tuple[int, int]]:
    layers = model.model.base_model.encoder.layer
    return [
        (layer.attention.self.num_attention_heads, layer.intermediate.dense.out_features)
        for layer in layers
    ]


@pytest.mark.parametrize("backbone", ["bert", "roberta"])
def test_zero_blocks_go_and_their_constants_stay(tmp_path: Path, backbone: str) -> None:
    checkpoint = write_pruned(tmp_path / "c", backbone=backbone, heads=(4, 4), neurons=(64, 64))
    rewrite(checkpoint, with_zero_blocks)
    model = plain.load(open_checkpoint(checkpoint), LoadOptions()).eval()
    [note] = drop_zero_blocks(model)
    assert widths(model) == [(4, 61), (2, 64)]
    assert "2 heads and 3 neurons" in note
    rows = list(random_rows(backbone, 10))
    assert torch_difference(model, Encoder(checkpoint), rows) <= 1e-5


def test_layers_of_different_widths_are_narrowed_further(tmp_path: Path) -> None:
    checkpoint = write_pruned(tmp_path / "c", heads=(2, 4, 1), neurons=(40, 64, 9))
    rewrite(checkpoint, with_zero_blocks)
    model = pruned.load(open_checkpoint(checkpoint), LoadOptions()).eval()
    drop_zero_blocks(model)
    assert widths(model) == [(2, 37), (2, 64), (1, 9)]
    reference = Encoder(checkpoint, head_size=HEAD_SIZE)
    assert torch_difference(model, reference, list(random_rows("bert", 10))) <= 1e-5


def test_a_layer_without_any_use_keeps_one_head_and_one_neuron(tmp_path: Path) -> None:
    def nothing(tensors: Tensors) -> Tensors:
        return {
            k: t * 0 if "encoder.layer.0" in k and t.ndim == 2 else t for k, t in tensors.items()
        }

    checkpoint = rewrite(write_pruned(tmp_path / "c", heads=(4, 4), neurons=(64, 64)), nothing)
    model = plain.load(open_checkpoint(checkpoint), LoadOptions()).eval()
    drop_zero_blocks(model)
    assert widths(model) == [(1, 1), (4, 64)]
    assert torch_difference(model, Encoder(checkpoint), list(random_rows("bert", 5))) <= 1e-5


def test_single_zeros_are_said_to_save_nothing(tmp_path: Path) -> None:
    def prune(tensors: Tensors) -> Tensors:
        return {
            k: t * (torch.rand_like(t) > 0.5) if "layer" in k and t.ndim == 2 else t
            for k, t in tensors.items()
        }

    torch.manual_seed(0)
    checkpoint = rewrite(write_pruned(tmp_path / "c", heads=(4, 4), neurons=(64, 64)), prune)
    model = plain.load(open_checkpoint(checkpoint), LoadOptions())
    [note] = drop_zero_blocks(model)
    assert "save neither time nor space" in note
    assert note.startswith("50 %")


def test_a_model_without_zeros_is_left_alone(tmp_path: Path) -> None:
    checkpoint = write_pruned(tmp_path / "c", heads=(4, 4), neurons=(64, 64))
    assert drop_zero_blocks(plain.load(open_checkpoint(checkpoint), LoadOptions())) == ()

"""Movement pruning: scores become masks by the rules of the authors' binarizers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.checkpoints.leftovers import settle
from effbert.exporter.formats import movement
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, InputError
from systems.compressed_reference import Encoder, torch_difference
from systems.edits import Tensors, claims, rewrite
from systems.quantized_checkpoint import is_linear, write_masked
from vocabularies import random_rows

ROWS = list(random_rows("bert", 10))


def masked_by_hand(method: str, weight: torch.Tensor, scores: torch.Tensor, threshold: float):
    """Element by element, from the description of the authors' binarizers."""
    keys = (weight.abs() if method == "magnitude" else scores).flatten().tolist()
    count = len(keys)
    if method in ("topK", "magnitude"):
        best = sorted(range(count), key=lambda i: -keys[i])[: int(threshold * count)]
        factors = [1.0 if i in set(best) else 0.0 for i in range(count)]
    elif method == "l0":
        factors = [
            min(1.0, max(0.0, 1.2 / (1 + torch.e ** -torch.tensor(k)).item() - 0.1)) for k in keys
        ]
    else:
        compared = torch.tensor(keys)
        compared = compared.sigmoid() if method == "sigmoied_threshold" else compared
        factors = (compared > threshold).float().tolist()
        least = int(0.005 * count) + 1
        if sum(factors) < least:
            bound = sorted(keys)[max(count - least, 1) - 1]
            factors = [1.0 if k > bound else 0.0 for k in keys]
    return weight * torch.tensor(factors).view_as(weight)


def load(checkpoint: Path, threshold: float | None = None):
    opened = open_checkpoint(checkpoint)
    model = movement.load(opened, LoadOptions(mask_threshold=threshold))
    settle(opened, "movement")
    return model


@pytest.mark.parametrize(
    "method, threshold",
    [
        ("topK", 0.15),
        ("topK", 1.0),
        ("magnitude", 0.3),
        ("sigmoied_threshold", 0.5),
        ("sigmoied_threshold", 0.9999),
        ("threshold", 0.2),
        ("l0", None),
    ],
)
def test_masks_are_those_of_the_authors_rule(
    tmp_path: Path, method: str, threshold: float | None
) -> None:
    checkpoint = write_masked(tmp_path / "c", method, scored=method != "magnitude")
    assert claims(checkpoint) == ["movement"]
    reference = Encoder(checkpoint)
    tensors = {
        name: masked_by_hand(
            method,
            tensor,
            reference.tensors.get(name.replace("weight", "mask_scores"), tensor),
            threshold or 0.0,
        )
        if is_linear(name, tensor)
        else tensor
        for name, tensor in reference.tensors.items()
    }
    right = Encoder(checkpoint, tensors=tensors)
    assert torch_difference(load(checkpoint, threshold), right, ROWS) <= 1e-4
    if threshold != 1.0:
        assert torch_difference(load(checkpoint, threshold), reference, ROWS) > 1e-3


@pytest.mark.parametrize("method", ["topK", "sigmoied_threshold", "magnitude", None])
def test_without_a_threshold_the_message_says_what_it_means(
    tmp_path: Path, method: str | None
) -> None:
    checkpoint = write_masked(tmp_path / "c", method, scored=method != "magnitude")
    with pytest.raises(CheckpointError, match=r"does not store the threshold .*--mask-threshold 0"):
        load(checkpoint)


def zeroed(tensors: Tensors) -> Tensors:
    return {k: t * (t.abs() > 0.1) if is_linear(k, t) else t for k, t in tensors.items()}


@pytest.mark.parametrize("method", ["topK", "magnitude"])
def test_a_converted_file_is_loaded_although_its_config_was_left(
    tmp_path: Path, method: str
) -> None:
    checkpoint = rewrite(write_masked(tmp_path / "c", method, scored=False), zeroed)
    assert claims(checkpoint) == ["movement"]
    assert torch_difference(load(checkpoint), Encoder(checkpoint), ROWS) <= 1e-4
    with pytest.raises(InputError, match="masks were applied already"):
        load(checkpoint, 0.5)


def test_a_share_above_one_and_an_unknown_method_are_refused(tmp_path: Path) -> None:
    checkpoint = write_masked(tmp_path / "c", "topK")
    with pytest.raises(InputError, match="keeps a share of the weights"):
        load(checkpoint, 15)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"pruning_method": "soft"}))
    with pytest.raises(CheckpointError, match="pruning_method is 'soft', expected one of topK"):
        load(checkpoint, 0.1)

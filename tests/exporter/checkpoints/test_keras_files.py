"""HDF5 files that are damaged, lie, or hold other models than PoWER-BERT's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from effbert.exporter.checkpoints.find import open_checkpoint
from systems.exported import refused

h5py = pytest.importorskip("h5py", reason="the extra keras is not installed")
from systems.power_checkpoint import (  # noqa: E402  # this needs h5py
    LAYERS,
    Weights,
    random_weights,
    save,
    settings,
    write_power,
)


def test_a_truncated_file_is_refused(tmp_path: Path):
    path = write_power(tmp_path / "c")
    path.write_bytes(path.read_bytes()[:-5000])
    assert "is not an HDF5 file of Keras, or damaged" in refused(path)


def test_another_file_is_refused(tmp_path: Path):
    path = tmp_path / "c.h5"
    path.write_bytes(b"no HDF5" * 1000)
    assert "is not an HDF5 file of Keras, or damaged" in refused(path)


def test_weights_without_a_model_are_refused(tmp_path: Path):
    path = tmp_path / "tf_model.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("bert/encoder/kernel:0", data=np.zeros(3))
    assert "is no whole model of Keras" in refused(path)


def test_another_model_of_keras_is_refused(tmp_path: Path):
    path = tmp_path / "c.h5"
    save(path, {"dense_1": {"kernel": np.zeros((3, 3))}}, {"class_name": "Sequential"})
    assert "is none of the known formats" in refused(path)


def misnamed(weights: Weights) -> None:
    weights["Encoder-7-FeedForward"] = weights.pop("Encoder-2-FeedForward")


def adapted(weights: Weights) -> None:
    weights["Encoder-1-FeedForward-Adapter"] = {"W1": np.zeros((32, 4))}


def narrower(weights: Weights) -> None:
    name = "Encoder-2-MultiHeadSelfAttention"
    weights[name][f"{name}_Wk"] = np.zeros((32, 8))


def flat(weights: Weights) -> None:
    weights["NSP"]["kernel"] = np.zeros(96)


def empty(weights: Weights) -> None:
    weights["NSP"] = {"kernel": np.zeros((32, 0)), "bias": np.zeros(0)}


def whole_numbers(weights: Weights) -> None:
    weights["NSP"]["bias"] = np.zeros(3, np.int32)


@pytest.mark.parametrize(
    "change, message",
    [
        (misnamed, "lacks 4 tensors, such as Encoder-2-FeedForward/W1"),
        (adapted, "that PoWER-BERT does not have, such as Encoder-1-FeedForward-Adapter/W1"),
        (narrower, "Encoder-2-MultiHeadSelfAttention/Wk has shape [32, 8], expected [32, 32]"),
        (flat, "NSP/kernel has shape [96], expected [32, 'C']"),
        (empty, "NSP/kernel has shape [32, 0], expected [32, 1]"),
        (whole_numbers, "NSP/NSP/bias:0 holds int32 values, expected floating point"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[Weights], None], message: str
):
    weights = random_weights(LAYERS, 3)
    change(weights)
    save(tmp_path / "c.hdf5", weights, settings(LAYERS, 3, None))
    assert message in refused(tmp_path / "c.hdf5")


def five_heads(config: dict[str, Any]) -> object:
    config["config"]["layers"][1]["config"]["head_num"] = 5
    return config


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda config: [], "model_config must be a JSON object"),
        (lambda config: {}, "None attention heads do not share a hidden size of 32"),
        (lambda config: {"config": {"layers": 7}}, "None attention heads"),
        (lambda config: {"config": {"layers": [7, {}]}}, "None attention heads"),
        (five_heads, "5 attention heads do not share a hidden size of 32"),
        (lambda config: settings(LAYERS, 3, None, "swish"), "'swish' is no activation of PoWER"),
        (lambda config: "x" * (1 << 22), "model_config is larger than"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
):
    path = tmp_path / "c.hdf5"
    save(path, random_weights(LAYERS, 3), change(settings(LAYERS, 3, None)))
    assert message in refused(path)


NAME = "NSP/bias:0"


def soft_link(group: Any, other: Path) -> None:
    group[NAME] = h5py.SoftLink("/model_weights/NSP-Dense/NSP-Dense/bias:0")


def external_link(group: Any, other: Path) -> None:
    group[NAME] = h5py.ExternalLink(other, "bias")


def virtual_dataset(group: Any, other: Path) -> None:
    layout = h5py.VirtualLayout((3,), np.float32)
    layout[:] = h5py.VirtualSource(other, "bias", (3,))
    group.create_virtual_dataset(NAME, layout)


def external_storage(group: Any, other: Path) -> None:
    group.create_dataset(NAME, (3,), np.float32, external=[(other, 0, 12)])


def cycle(group: Any, other: Path) -> None:
    group[NAME] = group.parent


def bomb(group: Any, other: Path) -> None:
    group.create_dataset(NAME, (10**9,), np.float32, compression="gzip", chunks=(1 << 20,))


def large_chunk(group: Any, other: Path) -> None:
    options = {"maxshape": (None,), "compression": "gzip", "chunks": (1 << 24,)}
    group.create_dataset(NAME, data=np.zeros(3, np.float32), **options)


@pytest.mark.parametrize(
    "write, message",
    [
        (soft_link, "NSP/bias:0 is missing or lies outside of the file"),
        (external_link, "NSP/bias:0 is missing or lies outside of the file"),
        (virtual_dataset, "NSP/bias:0 is missing or lies outside of the file"),
        (external_storage, "NSP/bias:0 is missing or lies outside of the file"),
        (cycle, "is not an HDF5 file of Keras, or damaged"),
        (bomb, "NSP/bias:0 claims more numbers than the file holds"),
        (large_chunk, "NSP/bias:0 claims more numbers than the file holds"),
    ],
)
def test_files_that_lie_are_refused(
    tmp_path: Path, write: Callable[[Any, Path], None], message: str
):
    path, other = write_power(tmp_path / "c", "finetune"), tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["bias"] = np.zeros(3, np.float32)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/NSP"]
        del group[NAME]
        write(group, other)
    assert message in refused(path)


@pytest.mark.parametrize("kind", [np.float16, np.float64, ">f4"])
def test_other_floats_are_read_as_float32(tmp_path: Path, kind: Any):
    weights = random_weights(1, 3)
    for layer in weights.values():
        layer.update({name: tensor.astype(kind) for name, tensor in layer.items()})
    save(tmp_path / "c.h5", weights, settings(1, 3, None))
    tensors = open_checkpoint(tmp_path / "c.h5").load_tensors()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    expected = weights["NSP"]["kernel"].astype(np.float32)
    np.testing.assert_array_equal(tensors["NSP/kernel"], expected)

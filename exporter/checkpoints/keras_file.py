"""Read whole models that Keras saved as HDF5: their tensors and settings, none of their code.

The layout is that of `model.save` (Keras 2): the attribute `model_config` is a JSON object, and
each group in `model_weights` is a layer whose attribute `weight_names` names its datasets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from effbert.exporter.checkpoints.checkpoint import (
    KERAS_SUFFIXES,
    MAX_CONFIG_BYTES,
    WEIGHT_SUFFIXES,
    Checkpoint,
)
from effbert.exporter.checkpoints.tensors import Tensors
from effbert.exporter.reason import short_reason
from effbert.runtime.errors import CheckpointError, MissingDependencyError

MAX_NAMES_BYTES = 1 << 16  # of one layer's weights, as much as an attribute of Keras holds


class KerasCheckpoint(Checkpoint):
    """One HDF5 file: tensors are called `layer/weight`, the config is Keras' own."""

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `Checkpoint`."""
        with _reading(self.weights[0]) as file:
            return {name: tuple(dataset.shape) for name, dataset in _datasets(file)}

    def load_tensors(self) -> Tensors:
        """See `Checkpoint`."""
        with _reading(self.weights[0]) as file:
            tensors = {
                name: torch.from_numpy(np.array(dataset, np.float32))
                for name, dataset in _datasets(file)
            }
        return Tensors(tensors, self.account)


def find_keras(path: Path) -> Path | None:
    """Tell whether a file is one of Keras, or which file of a folder that holds no other weights.

    Raises:
        CheckpointError: The folder holds several.
    """
    if path.is_file():
        return path if path.suffix in KERAS_SUFFIXES else None
    files = sorted(path.iterdir()) if path.is_dir() else []
    found = [file for file in files if file.suffix in KERAS_SUFFIXES and file.is_file()]
    if not found or any(file.suffix in WEIGHT_SUFFIXES for file in files):
        return None
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise CheckpointError(f"{path} holds several weights files ({names}); name one of them.")
    return found[0]


def open_keras(path: Path) -> KerasCheckpoint:
    """Open a model that Keras saved.

    Raises:
        CheckpointError: The file is damaged, or holds something else.
        MissingDependencyError: H5py is not installed.
    """
    with _reading(path) as file:
        if "model_config" not in file.attrs or "model_weights" not in file:
            raise CheckpointError(
                f"{path} is no whole model of Keras, as those of PoWER-BERT are, and effbert reads "
                "no other HDF5 files; save the weights as .safetensors."
            )
        text = _attribute(file, "model_config", MAX_CONFIG_BYTES)
        if len(text) > MAX_CONFIG_BYTES:  # as long as the file may be, where it is not of one size
            raise CheckpointError(f"{path}: model_config is larger than {MAX_CONFIG_BYTES} bytes.")
    try:
        config = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: model_config is not JSON: {short_reason(error)}."
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: model_config must be a JSON object.")
    name = f"{path.resolve().parent.name}/{path.name}"
    return KerasCheckpoint(name, path.parent, config, (path,))


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is an HDF5 file, and h5py, which reads those, cannot be imported ({error}); "
            'install it with: pip install "effbert[keras]".'
        ) from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (CheckpointError, PermissionError):
        raise
    except Exception as error:  # h5py raises many kinds, all meaning the same to a user
        raise CheckpointError(
            f"{path} is not an HDF5 file of Keras, or damaged ({short_reason(error)}); fetch it "
            "again."
        ) from error


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield the weights of all layers, once it is sure that the file holds as much as they claim.

    Raises:
        CheckpointError: They lie elsewhere, are no numbers, or are more than the file holds.
    """
    path, claimed = Path(file.filename), 0
    size = path.stat().st_size
    weights = _inside(path, file, "model_weights")
    for layer in weights:
        group = _inside(path, weights, layer)
        for name in _attribute(group, "weight_names", MAX_NAMES_BYTES):
            name = name.decode() if isinstance(name, bytes) else name
            dataset = _inside(path, group, name)
            # Compressed data is read chunk by chunk, and a chunk may be larger than the tensor.
            claimed += max(math.prod(dataset.shape), math.prod(dataset.chunks or ())) * 4
            if dataset.is_virtual or dataset.external:
                raise _elsewhere(path, f"{layer}/{name}")
            if dataset.dtype.kind != "f":
                raise CheckpointError(
                    f"{path}: {layer}/{name} holds {dataset.dtype} values, expected floating point."
                )
            if claimed > 2 * size:  # float16 is read as float32
                raise CheckpointError(
                    f"{path}: {layer}/{name} claims more numbers than the file holds; fetch it "
                    "again, or save it without compression."
                )
            yield f"{layer}/{_leaf(layer, name)}", dataset


def _inside(path: Path, group: Any, name: str) -> Any:
    """Follow `name` from group to group, and refuse links that may leave the file."""
    import h5py

    for part in name.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise _elsewhere(path, name)
        group = group[part]
    return group


def _elsewhere(path: Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {name} is missing or lies outside of the file, where effbert does not look; save "
        "the whole model to one file."
    )


def _attribute(item: Any, name: str, limit: int) -> Any:
    stored = item.attrs.get_id(name)
    # Strings of any length have no size yet; Keras writes one of them, but no arrays.
    unsized = stored.shape and stored.dtype.kind == "O"
    if unsized or math.prod(stored.shape) * stored.dtype.itemsize > limit:
        raise CheckpointError(f"{item.file.filename}: {name} is larger than {limit} bytes.")
    return item.attrs[name]


def _leaf(layer: str, name: str) -> str:
    """Tell what a weight is called within its layer: Wq for Encoder-1-X/Encoder-1-X_Wq:0."""
    return name.rpartition("/")[2].partition(":")[0].removeprefix(f"{layer}_")

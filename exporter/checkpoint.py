"""Open a checkpoint - folder, single file or hub id - without running any code from it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from effbert.exporter.reason import reason
from effbert.runtime.errors import CheckpointError

MAX_CONFIG_BYTES = 1 << 22
HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "best.th",  # allennlp's, beside the states after each epoch
    "weights.th",
)
KERAS_SUFFIXES = (".h5", ".hdf5")
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".th")
NOT_WEIGHTS = {"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: its config, and where its weights lie.

    `shapes` tells every tensor's shape without loading it (safetensors); a leading `module.`, left
    by torch's DataParallel, is dropped from the names.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor by name.

        Raises:
            CheckpointError: a weights file is damaged or holds more than tensors.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for path in self.weights:
            if path.suffix == ".safetensors":
                shapes |= _safetensors_shapes(path)
            else:
                shapes |= {k: tuple(t.shape) for k, t in self._pickles[path].items()}
        return {_plain(key): shape for key, shape in shapes.items()}

    @cached_property
    def _pickles(self) -> dict[Path, dict[str, torch.Tensor]]:
        return {path: _load_pickle(path) for path in self.weights if path.suffix != ".safetensors"}

    def load_tensors(self) -> dict[str, torch.Tensor]:
        """Load every tensor by name, float16 and bfloat16 widened to float32.

        Raises:
            CheckpointError: a weights file is damaged or holds more than tensors.
        """
        tensors: dict[str, torch.Tensor] = {}
        for path in self.weights:
            if path.suffix == ".safetensors":
                with _open_safetensors(path) as file:
                    tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            else:
                tensors |= self._pickles[path]
        return {
            _plain(key): t.float() if t.is_floating_point() else t for key, t in tensors.items()
        }

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the bytes of all weights files, in order."""
        digest = hashlib.sha256()
        for path in self.weights:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def open_checkpoint(location: str | Path) -> Checkpoint:
    """Find config and weights of a checkpoint.

    Args:
        location: a folder with config.json, one weights file with a config.json beside it, a whole
            model of Keras in HDF5, or the id of a model on the Hugging Face hub.

    Raises:
        CheckpointError: nothing usable is there; the message says what was looked for.
    """
    try:
        return _open(str(location))
    except OSError as error:
        place = error.filename or location
        raise CheckpointError(f"{place} cannot be read: {error.strerror or error}.") from error


def _open(location: str) -> Checkpoint:
    path = Path(os.path.expanduser(location))  # which, unlike Path's own, never fails
    from effbert.exporter.keras_file import find_keras, open_keras  # which itself needs Checkpoint

    if saved := find_keras(path):
        return open_keras(saved)
    if path.is_file():
        if path.suffix == ".pkl":
            raise _pickled_module(path)
        if path.suffix not in WEIGHT_SUFFIXES:
            raise CheckpointError(
                f"{path} is not a weights file: expected a folder, a hub id or one of "
                f"{', '.join('*' + s for s in WEIGHT_SUFFIXES + KERAS_SUFFIXES)}."
            )
        name = f"{path.resolve().parent.name}/{path.name}"
        return Checkpoint(name, path.parent, _read_config(path.parent), (path,))
    if path.is_dir():
        pickles = [*path.glob("*.pkl")]
        if pickles and not any(file.suffix in WEIGHT_SUFFIXES for file in path.iterdir()):
            raise _pickled_module(max(pickles, key=lambda file: file.stat().st_size))
        folder, name = path, path.resolve().name
    else:
        folder, name = _download(location), location
    return Checkpoint(name, folder, _read_config(folder), tuple(_find_weights(folder)))


def _pickled_module(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is a pickled module, which is code; where it was trained, run "
        f"torch.save(torch.load({path.name!r}).state_dict(), 'pytorch_model.bin') and put "
        "the encoder's config.json beside that file."
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no config.json; point at the folder that save_pretrained wrote, or put "
            "the model's config.json beside the weights."
        )
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes.")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {reason(error)}.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path}: architectures must be a list of class names.")
    if not isinstance(config.get("model_type", ""), str):
        raise CheckpointError(f"{path}: model_type must be a name, such as bert.")
    if "auto_map" in config:
        raise CheckpointError(
            f"{path} asks for code from the checkpoint (auto_map), which effbert never runs; if "
            "transformers knows this model type by itself, remove the auto_map entry."
        )
    return config


def _find_weights(folder: Path) -> Iterable[Path]:
    for name in WEIGHT_FILES:
        path = folder / name
        if path.is_file():
            return _shards(path) if name.endswith(".index.json") else [path]
    found = sorted(
        p for p in folder.iterdir() if p.suffix in WEIGHT_SUFFIXES and p.name not in NOT_WEIGHTS
    )
    if len(found) == 1:
        return found
    if found:
        names = ", ".join(p.name for p in found)
        raise CheckpointError(f"{folder} holds several weights files ({names}); name one of them.")
    raise CheckpointError(
        f"{folder} holds no weights; expected {', '.join(WEIGHT_FILES[:4:2])} or one other "
        f"{', '.join('*' + s for s in WEIGHT_SUFFIXES)} file."
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index} is not a valid index of weights files.") from error
    if not names:
        raise CheckpointError(f"{index} names no weights files; save the checkpoint again.")
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*", name):
            raise CheckpointError(f"{index} names {name!r}, which is not a plain file name.")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index} names {name}, which is missing; fetch it again.")
    return [index.parent / name for name in names]


def _download(name: str) -> Path:
    if not HUB_ID.fullmatch(name) or name.endswith(WEIGHT_SUFFIXES):
        raise CheckpointError(f"{name} does not exist.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    side = ["*.json", "*.txt", "*.model"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*side, "model*.safetensors"]))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*side, "pytorch_model*.bin"]))
    except (OSError, ValueError, LocalEntryNotFoundError) as error:
        raise CheckpointError(
            f"{name} is neither a folder nor a file here, and the hub gave nothing: "
            f"{reason(error)}."
        ) from error
    return folder


def _open_safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {reason(error)}; fetch it again.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}.") from error


def _safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with _open_safetensors(path) as file:
        return {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118


def _load_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Read a torch file with the restricted unpickler; anything but tensors is refused."""
    try:
        zipped = _is_stored_zip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other pickle protocols: they load, or raise
            state = torch.load(  # noqa: TID251  # the one place, and restricted
                path, map_location="cpu", weights_only=True, mmap=zipped
            )
    except Exception as error:  # the unpickler raises many kinds, all meaning the same to a user
        raise CheckpointError(
            f"{path} could not be read as plain tensors: it is damaged, or a pickle with code in "
            "it, which effbert never runs; save the weights as .safetensors."
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and _is_whole(value) for name, value in state.items()
    ):
        raise CheckpointError(
            f"{path} is not a state_dict (tensor names to tensors); save model.state_dict()."
        )
    return dict(state)


def _is_whole(value: object) -> bool:
    """Tell a tensor whose elements all lie in the file from one that only claims to have them."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _is_stored_zip(path: Path) -> bool:
    """Tell the zip layout of torch from the older one.

    Raises:
        ValueError: the zip is compressed, which torch never does and a zip bomb always.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return False
    with zipfile.ZipFile(path) as archive:
        if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
            raise ValueError(f"{path} is compressed")
    return True


def _plain(key: str) -> str:
    return key.removeprefix("module.")

"""Find a checkpoint - folder, single file or hub id - and its weights."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from effbert.exporter.checkpoints.checkpoint import (
    KERAS_SUFFIXES,
    MAX_CONFIG_BYTES,
    WEIGHT_SUFFIXES,
    Checkpoint,
)
from effbert.exporter.checkpoints.keras_file import find_keras, open_keras
from effbert.exporter.checkpoints.lora import ADAPTER_CONFIG
from effbert.exporter.reason import short_reason
from effbert.runtime.bundle.hub import Snapshot, fetch
from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.errors import CheckpointError, InputError

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
SIDE_FILES = ("*.json", "*.txt", "*.model", "*.codes", "*.bpe", "*.spm", "*.vocab", "*.tiktoken")
NOT_WEIGHTS = {"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt"}
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "best.th",  # allennlp's, beside the states after each epoch
    "weights.th",
)


def open_checkpoint(location: str | Path, revision: str | None = None) -> Checkpoint:
    """Find config and weights of a checkpoint.

    Args:
        location: A folder with config.json, one weights file with a config.json beside it, a whole
            model of Keras in HDF5, or the id of a model on the Hugging Face hub.
        revision: Branch, tag or commit on the hub; None is the branch `main`.

    Raises:
        InputError: A revision of something that is here.
        CheckpointError: Nothing usable is there; the message says what was looked for.
    """
    try:
        return _open(str(location), revision)
    except OSError as error:
        where = error.filename or location
        raise CheckpointError(f"{where} cannot be read: {error.strerror or error}.") from error


def _open(location: str, revision: str | None) -> Checkpoint:
    path = Path(os.path.expanduser(location))  # which, unlike Path's own, never fails
    if revision is not None and path.exists():
        raise InputError(f"--revision belongs to a checkpoint on the hub; {location} is here.")
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
        folder, name = _download(location, revision)
    return Checkpoint(name, folder, _read_config(folder), tuple(_find_weights(folder)))


def _pickled_module(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is a pickled module, which is code; where it was trained, run "
        f"torch.save(torch.load({path.name!r}).state_dict(), 'pytorch_model.bin') and put "
        "the encoder's config.json beside that file."
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file() and (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(
            f"{folder} holds an adapter ({ADAPTER_CONFIG}) without the model that it changes; load "
            "both with PEFT, save model.merge_and_unload() with save_pretrained, and export that."
        )
    if not path.is_file() and (folder / MANIFEST_NAME).is_file():
        raise CheckpointError(
            f"{folder} holds a bundle, which is exported already; run it with: effbert run BUNDLE."
        )
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
        raise CheckpointError(f"{path} is not valid JSON: {short_reason(error)}.") from error
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


def _download(name: str, revision: str | None) -> Snapshot:
    """Fetch configuration, tokenizer and weights of a commit; pickles only without safetensors."""
    if not HUB_ID.fullmatch(name) or name.endswith(WEIGHT_SUFFIXES):
        raise CheckpointError(f"{name} does not exist.")
    found = fetch(name, revision, [*SIDE_FILES, "model*.safetensors"], CheckpointError)
    if any(found.folder.glob("*.safetensors")):
        return found
    return fetch(name, found.commit, [*SIDE_FILES, "pytorch_model*.bin"], CheckpointError)

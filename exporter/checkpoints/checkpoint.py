"""A checkpoint on disk: its config, and tensors that are read without running any code."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from effbert.exporter.checkpoints.buffers import require_usual
from effbert.exporter.checkpoints.lora import find_lora, merge
from effbert.exporter.checkpoints.packed import unpack
from effbert.exporter.checkpoints.tensors import Account, Tensors
from effbert.exporter.checkpoints.wrapper_names import unwrapped_names
from effbert.exporter.reason import short_reason
from effbert.runtime.errors import CheckpointError

MAX_CONFIG_BYTES = 1 << 22
KERAS_SUFFIXES = (".h5", ".hdf5")
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".th", ".ckpt")
# Where training loops keep a state_dict among other things: Lightning, DeepSpeed, fairseq.
CONTAINERS = ("state_dict", "model_state_dict", "model", "module")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: its config, and where its weights lie.

    `shapes` tells every tensor's shape without loading it (safetensors). Names are those of the
    model: without what DataParallel and other wrappers add, without `root`, and with LoRA merged.
    `account` remembers which tensors were read.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    root: str = ""
    account: Account = field(default_factory=Account, compare=False, repr=False)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor by name.

        Raises:
            CheckpointError: A weights file is damaged or holds more than tensors, or two of them
                have one name.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for path in self.weights:
            if path.suffix == ".safetensors":
                shapes |= _safetensors_shapes(path)
            else:
                shapes |= {k: tuple(t.shape) for k, t in self._pickles[path].items()}
        named = self._named(shapes)
        lora = find_lora(self.name, named)
        return named if lora is None else {new: named[key] for key, new in lora.plain.items()}

    @cached_property
    def _pickles(self) -> dict[Path, dict[str, torch.Tensor]]:
        paths = [path for path in self.weights if path.suffix != ".safetensors"]
        return {path: _load_pickle(path, self.account) for path in paths}

    def load_tensors(self) -> Tensors:
        """Load every tensor by name, float16 and bfloat16 widened to float32.

        Raises:
            CheckpointError: A weights file is damaged or holds more than tensors, or LoRA cannot
                be merged.
        """
        tensors: dict[str, torch.Tensor] = {}
        for path in self.weights:
            if path.suffix == ".safetensors":
                with _open_safetensors(path) as file:
                    tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            else:
                tensors |= self._pickles[path]
        named = self._named(
            {key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}
        )
        require_usual(self.name, named)
        if (lora := find_lora(self.name, named)) is not None:
            named = merge(named, lora, self.folder)
            self.account.say(*lora.notes())
        return Tensors(named, self.account)

    def _named(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Rename what the file holds, without what wrappers add to names."""
        plain = unwrapped_names(stored, self.root)
        return {plain[key]: value for key, value in stored.items()}

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the bytes of all weights files, in order."""
        digest = hashlib.sha256()
        for path in self.weights:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def _open_safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is damaged: {short_reason(error)}; fetch it again."
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {short_reason(error)}.") from error


def _safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with _open_safetensors(path) as file:
        return {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118


def read_restricted(path: Path) -> Any:
    """Read a torch file with the restricted unpickler, without running any code.

    It raises exceptions of many kinds, which all mean that the file is damaged, compressed, or
    holds more than plain values.
    """
    zipped = _is_stored_zip(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other pickle protocols: they load, or raise
        return torch.load(  # noqa: TID251  # the one place, and restricted
            path, map_location="cpu", weights_only=True, mmap=zipped
        )


def _load_pickle(path: Path, account: Account) -> dict[str, torch.Tensor]:
    """Read a torch file with the restricted unpickler; anything but tensors is refused."""
    try:
        state = read_restricted(path)
    except Exception as error:  # the unpickler raises many kinds, all meaning the same to a user
        raise CheckpointError(
            f"{path} could not be read as plain tensors: it is damaged, or a pickle with code in "
            "it, which effbert never runs; save the weights as .safetensors."
        ) from error
    inside = next((key for key in CONTAINERS if _holds(state, key)), None)
    if inside is not None:
        others = ", ".join(sorted(str(key) for key in state if key != inside))
        account.say(
            f"Left out: what {path.name} holds beside its {inside} ({others or 'nothing'})."
        )
        state = state[inside]
    if isinstance(state, dict):
        state = unpack(state, str(path))
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and _is_whole(value) for name, value in state.items()
    ):
        raise CheckpointError(
            f"{path} is not a state_dict (tensor names to tensors); save model.state_dict()."
        )
    return dict(state)


def _holds(state: object, key: str) -> bool:
    return isinstance(state, dict) and isinstance(state.get(key), dict)


def _is_whole(value: object) -> bool:
    """Tell whether all elements of a tensor lie in the file, as it claims."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _is_stored_zip(path: Path) -> bool:
    """Tell whether a file has torch's zip layout, not the older one.

    Raises:
        ValueError: The zip is compressed, which torch never does and a zip bomb always.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return False
    with zipfile.ZipFile(path) as archive:
        if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
            raise ValueError(f"{path} is compressed")
    return True

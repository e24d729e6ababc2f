"""Merge LoRA's matrices into the weights that they belong to (Hu et al., ICLR 2022).

The layout is PEFT's: `query.base_layer.weight` is the weight W, `query.lora_A.default.weight` and
`lora_B.default.weight` are A and B, and the layer computes with W + scaling * B A. The file
does not hold the scaling; adapter_config.json does. Modules that were trained whole are called
`classifier.modules_to_save.default.*`, and what they replace `classifier.original_module.*`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from effbert.exporter.checkpoints.tensors import two_for_one
from effbert.exporter.reason import short_reason
from effbert.runtime.errors import CheckpointError

ADAPTER_CONFIG = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20
MATRIX = re.compile(
    r"(?P<layer>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?P<rest>(\..+)?)"
)
SAVED = re.compile(r"(?P<layer>.+)\.modules_to_save\.(?P<adapter>[^.]+)\.(?P<leaf>.+)")
REPLACED = re.compile(r"(?P<layer>.+)\.original_module\.(?P<leaf>.+)")
WRAPPED = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|base_layer|modules_to_save)(\.|$)")
# Parts of names that PEFT gives to what is no pair of matrices, and what that is.
OTHERS = {
    "lora_magnitude_vector": "DoRA's magnitudes",
    "lora_E": "AdaLoRA's singular values",
    "ranknum": "AdaLoRA's ranks",
    "ia3_l": "the vectors of IA3",
    "oft_r": "the rotations of OFT",
    "boft_r": "the rotations of BOFT",
    "hada_w1_a": "the matrices of LoHa",
    "lokr_w1": "the matrices of LoKr",
    "vera_lambda_d": "the vectors of VeRA",
    "trainable_tokens_delta": "retrained tokens",
}
MERGE = "merge them where the model was trained (model.merge_and_unload() of PEFT), save that, and "
EXPORT = MERGE + "export it"


@dataclass(frozen=True)
class LoraNames:
    """Which tensors of a file are LoRA's, all by the names of the file.

    Attributes:
        plain: The other tensors, and how they are called without PEFT.
        pairs: Names of A and B by the plain name of the weight that they change.
        replaced: Weights that modules trained whole have replaced.
    """

    plain: Mapping[str, str]
    pairs: Mapping[str, tuple[str, str]]
    replaced: tuple[str, ...]

    def notes(self) -> tuple[str, ...]:
        """Say what was merged and what was left out."""
        merged = f"LoRA's matrices were merged into {len(self.pairs)} weights ({ADAPTER_CONFIG})."
        replaced = (
            f"Left out: {len(self.replaced)} tensors that fine-tuning replaced, such as "
            f"{next(iter(self.replaced), '')}."
        )
        return ((merged,) if self.pairs else ()) + ((replaced,) if self.replaced else ())


def find_lora(checkpoint: str, names: Mapping[str, object]) -> LoraNames | None:
    """Tell LoRA's matrices from the weights of the model; None where PEFT wrapped nothing.

    Raises:
        CheckpointError: There are several adapters, or something else than matrices.
    """
    if not any(WRAPPED.search(name) for name in names):
        return None
    plain: dict[str, str] = {}  # names of the file by the plain ones
    sides: dict[str, dict[str, str]] = {}
    adapters: set[str] = set()
    replaced = []
    for name in names:
        if other := next((part for part in name.split(".") if part in OTHERS), None):
            raise CheckpointError(
                f"{checkpoint} holds {OTHERS[other]} ({name}), which effbert does not merge; "
                f"{EXPORT}."
            )
        if match := MATRIX.fullmatch(name):
            adapters.add(_adapter(checkpoint, name, match))
            weight = f"{match['layer'].removesuffix('.base_layer')}.weight"
            sides.setdefault(weight, {})[match["side"]] = name
        elif match := SAVED.fullmatch(name):
            adapters.add(match["adapter"])
            _add(plain, name, f"{match['layer']}.{match['leaf']}")
        elif REPLACED.fullmatch(name):
            replaced.append(name)
        else:
            _add(plain, name, name.replace(".base_layer.", "."))
    if len(adapters) > 1:
        raise CheckpointError(
            f"{checkpoint} holds several adapters ({', '.join(sorted(adapters))}), and nothing "
            f"says which of them answers; {EXPORT}."
        )
    for weight, pair in sides.items():
        if pair.keys() != {"A", "B"} or weight not in plain:
            raise CheckpointError(
                f"{checkpoint} holds {next(iter(pair.values()))}, but {weight} or the other "
                f"matrix of the pair is not there; {EXPORT}."
            )
    return LoraNames(
        plain={name: new for new, name in plain.items()},
        pairs={weight: (pair["A"], pair["B"]) for weight, pair in sides.items()},
        replaced=tuple(replaced),
    )


def _add(plain: dict[str, str], name: str, new: str) -> None:
    if new in plain:
        raise two_for_one(plain[new], name, new)
    plain[new] = name


def _adapter(checkpoint: str, name: str, match: re.Match[str]) -> str:
    """Return the adapter's name, empty where the matrices have none."""
    parts = match["rest"].split(".")[1:]
    if parts[-1:] == ["bias"]:
        raise CheckpointError(
            f"{checkpoint} holds {name}: biases of LoRA's matrices, which effbert cannot merge; "
            f"{EXPORT}."
        )
    if not parts:
        raise CheckpointError(
            f"{checkpoint} holds {name} as loralib saves it, which does not tell whether it was "
            "merged already; load it where it was trained, call model.eval(), which merges, and "
            "export its state_dict without the lora_ tensors."
        )
    return ".".join(parts[:-1] if parts[-1] == "weight" else parts)


def merge(
    tensors: Mapping[str, torch.Tensor], names: LoraNames, folder: Path
) -> dict[str, torch.Tensor]:
    """Return the weights by their plain names, with LoRA's matrices merged as PEFT does.

    Raises:
        CheckpointError: The file adapter_config.json is missing, or does not fit the matrices.
    """
    merged = {plain: tensors[name] for name, plain in names.plain.items()}
    if not names.pairs:
        return merged
    config = _read_config(folder)
    for weight, (a, b) in names.pairs.items():
        base, down, up = (tensor.float() for tensor in (merged[weight], tensors[a], tensors[b]))
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise CheckpointError(f"{a} is {list(down.shape)} and {b} {list(up.shape)}, no pair.")
        layer = weight.removesuffix(".weight")
        change = up @ down
        turned = "lora_embedding_" in a or config.get("fan_in_fan_out") is True
        change = (change.T if turned else change) * _scaling(config, folder, layer, down.shape[0])
        if change.shape != base.shape:
            raise CheckpointError(
                f"{a} and {b} make a matrix of {list(change.shape)}, but {weight} is "
                f"{list(base.shape)}; they do not belong together."
            )
        merged[weight] = base + change
    return merged


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise CheckpointError(
            f"{folder} holds LoRA's matrices but no {ADAPTER_CONFIG}, which tells how much they "
            f"count (lora_alpha / r); put the one that PEFT saved there, or {EXPORT}."
        )
    try:
        text = path.read_text("utf-8") if path.stat().st_size <= MAX_CONFIG_BYTES else ""
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {short_reason(error)}.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise CheckpointError(f"{path} is not that of a LoRA (peft_type); {EXPORT}.")
    if config.get("use_dora") or config.get("layer_replication"):
        raise CheckpointError(
            f"{path} asks for use_dora or layer_replication, which effbert cannot merge; {EXPORT}."
        )
    return config


def _scaling(config: Mapping[str, Any], folder: Path, layer: str, rank: int) -> float:
    """How much the matrices of a layer count: alpha / r, or alpha / sqrt(r) with use_rslora."""
    said = _of_layer(config, "rank_pattern", "r", layer)
    alpha = _of_layer(config, "alpha_pattern", "lora_alpha", layer)
    if said != rank or isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise CheckpointError(
            f"{folder / ADAPTER_CONFIG} has r {said!r:.20} and lora_alpha {alpha!r:.20} for "
            f"{layer}, whose matrices have {rank} rows; it is not that of these weights."
        )
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") is True else alpha / rank)


def _of_layer(config: Mapping[str, Any], patterns: str, usual: str, layer: str) -> object:
    """Look up a setting as PEFT does: a pattern that ends the name, or the usual."""
    special = config.get(patterns) or {}
    if not isinstance(special, dict):
        return None
    for ending, value in special.items():
        if not re.fullmatch(r"[\w.]+", ending):  # PEFT takes any expression, even one without end
            return None
        if f".{layer}".endswith(f".{ending}"):
            return value
    return config.get(usual)

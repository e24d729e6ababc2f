"""Small checkpoints as movement pruning, pytorch-quantization and ModelOpt write them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from systems.compressed_checkpoint import HIDDEN, write_pruned
from systems.edits import Tensors, rewrite

LAYERS = 2
NEURONS = 2 * HIDDEN


def is_linear(name: str, tensor: Tensor) -> bool:
    return "encoder.layer" in name and name.endswith(".weight") and tensor.ndim == 2


def write_masked(folder: Path, method: str | None = "topK", scored: bool = True) -> Path:
    """Write what training with movement pruning leaves; magnitudes need no scores."""

    def with_scores(tensors: Tensors) -> Tensors:
        scores = {
            name.replace("weight", "mask_scores"): torch.randn(tensor.shape)
            for name, tensor in tensors.items()
            if is_linear(name, tensor)
        }
        return tensors | scores if scored else tensors

    config: dict[str, Any] = {} if method is None else {"pruning_method": method}
    kinds = ["MaskedBertForSequenceClassification"]
    return _write(folder, with_scores, model_type="masked_bert", architectures=kinds, **config)


def write_qdqbert(folder: Path, per_row: bool = True, **config: object) -> Path:
    """Write what transformers' QDQBERT example leaves: every quantizer calibrated."""

    def quantize(tensors: Tensors) -> Tensors:
        found = dict(tensors)
        for name, tensor in tensors.items():
            if is_linear(name, tensor):
                path = name.removesuffix(".weight")
                rows = tensor.abs().amax(1, keepdim=True)
                found[f"{path}._input_quantizer._amax"] = torch.tensor(3.1)
                found[f"{path}._weight_quantizer._amax"] = rows if per_row else rows.max()
        for layer in range(LAYERS):
            part = f"bert.encoder.layer.{layer}"
            for letter, largest in zip("qkva", (2.1, 2.3, 1.9, 1.0), strict=True):
                name = f"{part}.attention.self.matmul_{letter}_input_quantizer._amax"
                found[name] = torch.tensor(largest)
            for output in ("attention.output", "output"):
                for side, largest in (("local", 2.7), ("residual", 3.3)):
                    name = f"{part}.{output}.add_{side}_input_quantizer._amax"
                    found[name] = torch.tensor(largest)
        return found

    kinds = ["QDQBertForSequenceClassification"]
    return _write(folder, quantize, model_type="qdqbert", architectures=kinds, **config)


def write_modelopt(
    folder: Path,
    smooth: bool = False,
    states: Mapping[str, Mapping[str, Any]] | None = None,
    edit: Callable[[Tensors], Tensors] = dict,
) -> Path:
    """Write what `save_pretrained` leaves after `mtq.quantize`; `states` changes quantizers."""

    def quantize(tensors: Tensors) -> Tensors:
        found = dict(tensors)
        for name, tensor in tensors.items():
            path, _, kind = name.rpartition(".")
            if kind != "weight" or path.endswith("_embeddings"):
                continue
            found[f"{path}.input_quantizer._amax"] = torch.tensor(3.3)
            if tensor.ndim == 2:
                found[f"{path}.weight_quantizer._amax"] = tensor.abs().amax(1, keepdim=True)
                if smooth and "encoder" in path:
                    scale = torch.rand(tensor.shape[1]) + 0.5
                    found[f"{path}.input_quantizer._pre_quant_scale"] = scale
        return edit(found)

    _write(folder, quantize)
    if states is not None:
        mode = {
            "config": {},
            "metadata": {"quantizer_state": {k: dict(v) for k, v in states.items()}},
        }
        state = {"modelopt_state_dict": [("quantize", mode)], "modelopt_version": "0.47.0"}
        torch.save(state, folder / "modelopt_state.pth")
    return folder


def write_dynamic(folder: Path, by_channel: bool = False) -> Any:
    """Write a checkpoint as torch.ao leaves it; return the library's model."""
    from transformers import AutoModelForSequenceClassification

    write_pruned(folder, heads=(4, 4), neurons=(64, 64))
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    kinds: Any = {torch.nn.Linear}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what checkpoints hold
        if by_channel:
            kinds = {torch.nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
        quantized = torch.ao.quantization.quantize_dynamic(model, kinds, dtype=torch.qint8)
        torch.save(quantized.state_dict(), folder / "pytorch_model.bin")
    return quantized


def _write(folder: Path, change: Callable[[Tensors], Tensors], **config: object) -> Path:
    torch.manual_seed(0)
    sizes = {"heads": (4,) * LAYERS, "neurons": (NEURONS,) * LAYERS}
    return rewrite(write_pruned(folder, **sizes), change, **config)

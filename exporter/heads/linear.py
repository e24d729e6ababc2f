"""Linear layers made of a checkpoint's own tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from effbert.runtime.errors import CheckpointError


def load_linear(
    tensors: Mapping[str, torch.Tensor], name: str, inputs: int, outputs: int | None = None
) -> nn.Linear:
    """Build y = x W' + b from `name.weight` [outputs, inputs] and `name.bias` [outputs].

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    weight, bias = (_tensor(tensors, f"{name}.{part}") for part in ("weight", "bias"))
    expected = [(*weight.shape, 0)[0] if outputs is None else outputs, inputs]
    _require_shape(f"{name}.weight", weight, expected)
    _require_shape(f"{name}.bias", bias, expected[:1])
    return _layer(weight, bias)


def stacked_linear(
    tensors: Mapping[str, torch.Tensor], name: str, count: int, inputs: int, outputs: int
) -> list[nn.Linear]:
    """Build `count` layers from `name.weight` [count, inputs, outputs] and `name.bias`.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    weight, bias = (_tensor(tensors, f"{name}.{part}") for part in ("weight", "bias"))
    _require_shape(f"{name}.weight", weight, [count, inputs, outputs])
    _require_shape(f"{name}.bias", bias, [count, outputs])
    return [_layer(one.T, shift) for one, shift in zip(weight, bias, strict=True)]


def _layer(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def _require_shape(name: str, tensor: torch.Tensor, expected: list[int]) -> None:
    if list(tensor.shape) != expected:
        raise CheckpointError(
            f"{name} has shape {list(tensor.shape)}, expected {expected}; the checkpoint does not "
            "belong to its config.json."
        )


def _tensor(tensors: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    if name not in tensors:
        raise CheckpointError(f"The checkpoint has no tensor {name}; it is incomplete.")
    tensor = tensors[name]
    if not tensor.numel():
        raise CheckpointError(f"{name} is empty; fetch the checkpoint again.")
    if not tensor.is_floating_point():
        raise CheckpointError(
            f"{name} holds {str(tensor.dtype).removeprefix('torch.')} numbers, expected floating "
            "point; export the weights from before quantization."
        )
    return tensor

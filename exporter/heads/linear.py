"""Linear layers made of a checkpoint's own tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from effbert.runtime.errors import CheckpointError


def linear(
    tensors: Mapping[str, torch.Tensor], name: str, inputs: int, outputs: int | None = None
) -> nn.Linear:
    """Build y = x W' + b from `name.weight` [outputs, inputs] and `name.bias` [outputs].

    Raises:
        CheckpointError: a tensor is missing or has another shape.
    """
    weight, bias = (_tensor(tensors, f"{name}.{part}") for part in ("weight", "bias"))
    expected = [(*weight.shape, 0)[0] if outputs is None else outputs, inputs]
    for part, tensor, shape in (("weight", weight, expected), ("bias", bias, expected[:1])):
        if list(tensor.shape) != shape:
            raise CheckpointError(
                f"{name}.{part} has shape {list(tensor.shape)}, expected {shape}; the checkpoint "
                "does not belong to its config.json."
            )
    layer = nn.Linear(inputs, expected[0], device="meta")
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


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

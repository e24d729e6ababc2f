"""Weights that torch.ao packed: a quantized tensor and a bias under one name."""

from __future__ import annotations

from typing import Any

import torch

from effbert.runtime.errors import CheckpointError

PACKED, KIND = "._packed_params._packed_params", "._packed_params.dtype"
STEPS = ".weight_steps"  # our name for the scales of a weight, float32 [out]


def unpack(state: dict[str, Any], file: str) -> dict[str, Any]:
    """Turn packed weights into a float32 weight, its steps [out], and a bias.

    Args:
        state: Names to tensors and, of packed layers, pairs.
        file: Named in messages.

    Raises:
        CheckpointError: A weight is packed in another way than torch.ao's int8.
    """
    found: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(name, str) and name.endswith(KIND):
            continue
        if not isinstance(name, str) or not name.endswith(PACKED):
            found[name] = value
            continue
        path = name.removesuffix(PACKED)
        pair: tuple[Any, Any] = value if _is_pair(value) else (None, None)
        weight, bias = pair
        if not _is_int8(weight):
            raise CheckpointError(
                f"{file}: {path} is packed as no int8 weight of torch.ao with zero points of 0; "
                "quantize again with quantize_dynamic and dtype=torch.qint8."
            )
        found[f"{path}.weight"] = weight.dequantize()
        found[f"{path}{STEPS}"] = _steps(weight)
        if isinstance(bias, torch.Tensor):
            found[f"{path}.bias"] = bias.detach()
    return found


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _is_int8(weight: Any) -> bool:
    if not isinstance(weight, torch.Tensor) or not weight.is_quantized or weight.ndim != 2:
        return False
    if weight.dtype != torch.qint8 or weight.numel() > weight.untyped_storage().nbytes():
        return False
    if weight.qscheme() == torch.per_tensor_affine:
        return weight.q_zero_point() == 0
    if weight.qscheme() != torch.per_channel_affine:
        return False
    return weight.q_per_channel_axis() == 0 and not weight.q_per_channel_zero_points().any()


def _steps(weight: torch.Tensor) -> torch.Tensor:
    if weight.qscheme() == torch.per_tensor_affine:
        return torch.full((weight.shape[0],), weight.q_scale(), dtype=torch.float32)
    return weight.q_per_channel_scales().float()

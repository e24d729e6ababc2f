"""Operators of torch that graphs write as those of ONNX that round to integers.

`translations` says how; in torch they compute the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

BYTE = (0, 255)


@torch.library.custom_op("effbert::round_to_levels", mutates_args=())
def round_to_levels(values: Tensor, step: float, zero: int, least: int, most: int) -> Tensor:
    """Round values to multiples of a step, as ONNX's QuantizeLinear and DequantizeLinear do.

    Args:
        values: Of any shape.
        step: Between two levels.
        zero: The level of 0, from 0 to 255.
        least: The lowest level, 0 or more.
        most: The highest, up to 255.
    """
    levels = (values / step).round() + zero
    return (levels.clamp(least, most) - zero) * step


@torch.library.custom_op("effbert::dequantize", mutates_args=())
def dequantize(levels: Tensor, steps: Tensor) -> Tensor:
    """Turn int8 levels [in, out] into numbers, with a step for each column [out]."""
    return levels.to(steps.dtype) * steps


@round_to_levels.register_fake
def _(values: Tensor, step: float, zero: int, least: int, most: int) -> Tensor:
    del step, zero, least, most
    return torch.empty_like(values)


@dequantize.register_fake
def _(levels: Tensor, steps: Tensor) -> Tensor:
    return torch.empty_like(levels, dtype=steps.dtype)


@torch.library.custom_op("effbert::rounded_product", mutates_args=())
def rounded_product(values: Tensor, step: Tensor, zero: Tensor, weight: Tensor) -> Tensor:
    """Round values to unsigned bytes, with a step for each row of the batch, and multiply exactly.

    Args:
        values: Float [batch, ..., in].
        step: Between two levels, [batch].
        zero: The levels of 0, whole numbers from 0 to 255, [batch].
        weight: int8 [in, out].

    Returns:
        Whole numbers, of the type of `values`, [batch, ..., out].
    """
    by_row = (-1, *[1] * (values.ndim - 1))
    levels = ((values / step.view(by_row)).round() + zero.view(by_row)).clamp(0, 255)
    return (levels.double() @ weight.double()).to(values.dtype)


@rounded_product.register_fake
def _(values: Tensor, step: Tensor, zero: Tensor, weight: Tensor) -> Tensor:
    del step, zero
    return values.new_empty((*values.shape[:-1], weight.shape[1]))

"""Linear layers that choose the levels of their inputs anew for every row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from effbert.exporter.encoders.rounding_operators import rounded_product

REDUCED = 127  # levels above zero that torch.ao uses: seven bits of an unsigned byte


class DynamicLinear(nn.Module):
    """torch.ao's dynamically quantized linear layer, with a scale for each row of the batch.

    torch.ao takes the smallest and the largest input of the whole batch, padding included; a row
    alone gets the same scale here, and keeps it in any company.
    """

    levels: Tensor
    steps: Tensor
    sums: Tensor

    def __init__(self, levels: Tensor, steps: Tensor, bias: Tensor | None) -> None:
        """Take int8 levels [out, in], their float32 steps [out], and the bias, float32 [out]."""
        super().__init__()
        self.register_buffer("levels", levels.T.contiguous())
        self.register_buffer("steps", steps)
        self.register_buffer("sums", levels.double().sum(1).float())
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        """Multiply values [batch, ..., in]."""
        others = tuple(range(1, values.ndim))
        lowest = values.amin(others).clamp(max=0)
        highest = values.amax(others).clamp(min=0)
        step = (highest - lowest) / REDUCED
        step = torch.where(step == 0, 1.0, step)
        zero = (-lowest / step).round().clamp(0, REDUCED)
        by_row = (-1, *[1] * (values.ndim - 1))
        scale = step.view(by_row) * self.steps
        shift = zero.view(by_row) * self.sums * scale
        shift = -shift if self.bias is None else self.bias - shift
        return rounded_product(values, step, zero, self.levels) * scale + shift

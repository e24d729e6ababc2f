"""Rounding to integer levels as quantized checkpoints do it, in torch and in the graph.

Activations are rounded by `round_to_levels`, which a graph writes as QuantizeLinear and
DequantizeLinear; weights are stored as int8 levels, which it dequantizes. Engines find these pairs
around a product and multiply the integers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from effbert.exporter.encoders.rounding_operators import BYTE, dequantize, round_to_levels

NOTHING = 1e30  # a step so long that every value rounds to 0


class Quantizer(nn.Module):
    """Rounds what flows through it to fixed levels."""

    def __init__(self, step: float, zero: int, least: int = 0, most: int = 255) -> None:
        """See `round_to_levels`."""
        super().__init__()
        self.step, self.zero, self.least, self.most = step, zero, least, most

    @classmethod
    def symmetric(cls, largest: float, most: int = 127, narrow: bool = False) -> Quantizer:
        """Round to signed levels, of which `most` stands for the absolute value `largest`."""
        step = float(torch.tensor(largest / most, dtype=torch.float32)) or NOTHING
        return cls(step, 128, 129 if narrow else 0)

    @classmethod
    def positive(cls, largest: float) -> Quantizer:
        """Round to unsigned levels, of which 255 stands for `largest`."""
        return cls(float(torch.tensor(largest / BYTE[1], dtype=torch.float32)) or NOTHING, 0)

    def forward(self, values: Tensor) -> Tensor:
        """Round values of any shape."""
        rounded: Tensor = round_to_levels(values, self.step, self.zero, self.least, self.most)
        return rounded


class QuantizedLinear(nn.Module):
    """A linear layer with int8 weights, whose inputs may be scaled and rounded."""

    levels: Tensor
    steps: Tensor
    scale: Tensor | None

    def __init__(
        self,
        levels: Tensor,
        steps: Tensor,
        bias: Tensor | None,
        inputs: nn.Module | None = None,
        scale: Tensor | None = None,
    ) -> None:
        """Take the layer apart.

        Args:
            levels: int8 [out, in].
            steps: float32 [out].
            bias: float32 [out].
            inputs: What rounds the inputs; None leaves them.
            scale: What they are multiplied by before that, float32 [in].
        """
        super().__init__()
        self.register_buffer("levels", levels.T.contiguous())
        self.register_buffer("steps", steps)
        self.register_buffer("scale", scale)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.inputs = inputs if inputs is not None else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        """Multiply values [..., in]."""
        if self.scale is not None:
            values = values * self.scale
        product = self.inputs(values) @ dequantize(self.levels, self.steps)
        return product if self.bias is None else product + self.bias


class RoundedInput(nn.Module):
    """A module whose input is rounded first."""

    scale: Tensor | None

    def __init__(self, module: nn.Module, inputs: nn.Module, scale: Tensor | None = None) -> None:
        """Take the module, what rounds its input, and what that is multiplied by before."""
        super().__init__()
        self.module, self.inputs = module, inputs
        self.register_buffer("scale", scale)

    def forward(self, values: Tensor) -> Any:
        """Run the module on rounded values."""
        return self.module(self.inputs(values if self.scale is None else values * self.scale))


class RoundedAttention(nn.Module):
    """BERT's self-attention, with the operands of its two products rounded."""

    def __init__(self, attention: Any, rounding: dict[str, nn.Module]) -> None:
        """Take transformers' module, and what rounds `query`, `key`, `shares` and `value`."""
        super().__init__()
        self.query, self.key, self.value = attention.query, attention.key, attention.value
        self.heads = attention.num_attention_heads
        self.scaling = attention.scaling
        self.rounding = nn.ModuleDict(rounding)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Attend, [batch, tokens, hidden]; also the shares before rounding."""
        query, key, value = (
            layer(hidden_states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        keys = self._rounded("key", key.transpose(2, 3))  # engines look right before the product
        scores = self._rounded("query", query) @ keys * self.scaling
        shares = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
        context = self._rounded("shares", shares) @ self._rounded("value", value)
        return context.transpose(1, 2).flatten(2), shares

    def _rounded(self, name: str, values: Tensor) -> Tensor:
        rounded: Tensor = self.rounding[name](values) if name in self.rounding else values
        return rounded


class RoundedResidual(nn.Module):
    """BERT's `output` modules, with both sides of the addition rounded."""

    def __init__(self, output: Any, own: nn.Module, residual: nn.Module) -> None:
        """Take transformers' module, what rounds its product, and what rounds the residual."""
        super().__init__()
        self.dense, self.LayerNorm = output.dense, output.LayerNorm
        self.own, self.residual = own, residual

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Any:
        """Project, add, normalise."""
        return self.LayerNorm(self.own(self.dense(hidden_states)) + self.residual(input_tensor))


def quantize_weight(
    weight: Tensor, largest: Tensor, most: int = 127, narrow: bool = False
) -> tuple[Tensor, Tensor]:
    """Round a weight to the levels that a checkpoint's own scales make of it.

    Args:
        weight: float32 [out, in].
        largest: The absolute value that level `most` stands for: a scalar, or one a row.
        most: Of the levels.
        narrow: Without the level -128.

    Returns:
        int8 levels [out, in] and float32 steps [out].
    """
    largest = largest.float().reshape(-1).expand(weight.shape[0]).contiguous()
    steps = torch.where(largest == 0, 1.0, largest / most)
    scaled = weight * torch.where(largest == 0, 0.0, most / largest)[:, None]
    levels = scaled.round().clamp(-127 if narrow else -128, 127).to(torch.int8)
    return levels, steps


def replace_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in the place of the one at `path`."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)

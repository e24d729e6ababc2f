"""Slow references of quantized BERTs, one unpadded row at a time, in float64.

Written from the libraries' own formulas: levels are `round(x * most / amax)`, clamped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from reference import ACTIVATIONS
from systems.compressed_reference import Encoder

CLEAR = 2e-5  # farther from the middle between two levels than float32 is wrong, in levels


class Quantized(Encoder):
    """pytorch-quantization (`prefix` "_") or ModelOpt (""): `_amax` beside float weights.

    `nearest` is how close any value of the last row came to the middle between two levels.
    """

    def __init__(self, folder: Path, prefix: str, off: Sequence[str] = (), narrow: bool = False):
        super().__init__(folder)
        self.tensors = {name: tensor.double() for name, tensor in self.tensors.items()}
        self.mark, self.off, self.least = prefix, off, -127 if narrow else -128
        self.nearest = 0.5

    def answers_clearly(self, ids: Sequence[int]) -> tuple[Tensor, bool]:
        """The logits, and whether no rounding was a matter of float32's own rounding."""
        self.nearest = 0.5
        logits = torch.from_numpy(self.answers(ids)["logits"])
        return logits, self.nearest > CLEAR

    def rounded(self, name: str, x: Tensor) -> Tensor:
        """What the quantizer called `name` makes of a tensor."""
        largest = self.tensors.get(f"{name}_quantizer._amax")
        if largest is None or name in self.off:
            return x
        levels = x * (127 / largest)
        if "weight" not in name.rpartition(".")[2]:
            self.nearest = min(self.nearest, ((levels % 1) - 0.5).abs().min().item())
        return levels.round().clamp(self.least, 127) * (largest / 127)

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x W^T + b, both sides rounded."""
        inputs = f"{name}.{self.mark}input"
        scale = self.tensors.get(f"{inputs}_quantizer._pre_quant_scale")
        x = self.rounded(inputs, x if scale is None else x * scale)
        weight = self.rounded(f"{name}.{self.mark}weight", self.tensors[f"{name}.weight"])
        return x @ weight.T + self.tensors[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        """LayerNorm of what its quantizer, if there is one, makes of the input."""
        return super().norm(name, self.rounded(f"{name}.{self.mark}input", x))

    def attention(self, x: Tensor, query: str, key: str, value: str) -> Tensor:
        """Head by head, the operands of both products rounded."""
        own, heads = query.rpartition(".")[0], int(self.config["num_attention_heads"])
        q, k, v = (self.linear(name, x).chunk(heads, -1) for name in (query, key, value))
        out = []
        for one, other, third in zip(q, k, v, strict=True):
            one = self.rounded(f"{own}.matmul_q_input", one)
            other = self.rounded(f"{own}.matmul_k_input", other)
            scores = one @ other.T / math.sqrt(one.shape[1])
            shares = self.rounded(f"{own}.matmul_a_input", torch.softmax(scores, -1))
            out.append(shares @ self.rounded(f"{own}.matmul_v_input", third))
        return torch.cat(out, -1)

    def bert_layer(self, i: int, x: Tensor) -> Tensor:
        """Layer `i`, both sides of the additions rounded."""
        name, act = f"{self.prefix}.encoder.layer.{i}", ACTIVATIONS[self.config["hidden_act"]]
        self_ = f"{name}.attention.self"
        a = self.attention(x, f"{self_}.query", f"{self_}.key", f"{self_}.value")
        x = self.added(f"{name}.attention.output", a, x)
        return self.added(f"{name}.output", act(self.linear(f"{name}.intermediate.dense", x)), x)

    def added(self, name: str, x: Tensor, residual: Tensor) -> Tensor:
        """Project, add, normalise."""
        own = self.rounded(f"{name}.add_local_input", self.linear(f"{name}.dense", x))
        both = own + self.rounded(f"{name}.add_residual_input", residual)
        return self.norm(f"{name}.LayerNorm", both)

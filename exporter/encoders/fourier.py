"""The Fourier transform of FNet as matrix products, which every engine computes fast and exactly.

The real part of a two-dimensional transform is C_n x C_h - S_n x S_h with the cosine and sine
matrices of both extents (Lee-Thorp et al., "FNet", NAACL 2022, section 3). onnxruntime's own DFT
operator is off by 1e-3 after 12 layers of 768 and slower; other engines have none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    import transformers


def fourier_as_matrices(model: transformers.PreTrainedModel) -> None:
    """Let an FNet be traced with matrix products; where it runs in torch, nothing changes."""
    from transformers.models.fnet.modeling_fnet import FNetFourierTransform

    layers = [module for module in model.modules() if isinstance(module, FNetFourierTransform)]
    shared = _Fourier(model.config.hidden_size)
    for layer in layers:
        layer.self = shared


class _Fourier(nn.Module):
    """Real part of the transform of [batch, sequence, hidden] over its last two axes."""

    cosine: torch.Tensor
    sine: torch.Tensor

    def __init__(self, hidden: int) -> None:
        super().__init__()
        cosine, sine = _matrices(torch.arange(hidden))
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor]:
        if not torch.compiler.is_exporting():
            return (torch.fft.fftn(hidden_states, dim=(1, 2)).real,)
        cosine, sine = _matrices(torch.arange(hidden_states.shape[1]))
        rows = cosine @ (hidden_states @ self.cosine)
        return (rows - sine @ (hidden_states @ self.sine),)


def _matrices(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of 2 pi j k / n, with j k taken modulo n while it is still an integer."""
    extent = index[-1:] + 1
    turns = torch.remainder(index[:, None] * index[None, :], extent)
    angles = turns.to(torch.float32) * (2 * math.pi / extent.to(torch.float32))
    return torch.cos(angles), torch.sin(angles)

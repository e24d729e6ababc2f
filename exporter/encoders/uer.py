"""What a BERT of UER, the toolkit of FastBERT, computes otherwise than one of transformers."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from effbert.exporter.models.exit_model import MultiExitModel, additive_mask

EPSILON = 1e-6
# UER's names of tensors, in the order of replacement, and those of transformers.
NAMES = {
    r"^embedding\.(word|position)_embedding\.": r"bert.embeddings.\1_embeddings.",
    r"^embedding\.segment_embedding\.": "bert.embeddings.token_type_embeddings.",
    r"^embedding\.layer_norm\.": "bert.embeddings.LayerNorm.",
    r"^encoder\.transformer\.": "bert.encoder.layer.",
    r"\.self_attn\.linear_layers\.0\.": ".attention.self.query.",
    r"\.self_attn\.linear_layers\.1\.": ".attention.self.key.",
    r"\.self_attn\.linear_layers\.2\.": ".attention.self.value.",
    r"\.self_attn\.final_linear\.": ".attention.output.dense.",
    r"\.layer_norm_1\.": ".attention.output.LayerNorm.",
    r"\.layer_norm_2\.": ".output.LayerNorm.",
    r"\.feed_forward\.linear_1\.": ".intermediate.dense.",
    r"\.feed_forward\.linear_2\.": ".output.dense.",
    r"\.gamma$": ".weight",
    r"\.beta$": ".bias",
}


def transformers_name(name: str) -> str:
    """Call a tensor of UER's embedding or encoder as transformers calls that of a BERT."""
    for pattern, replacement in NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


class UerNorm(nn.Module):
    """gamma (x - mean) / (std + 1e-6) + beta with the unbiased standard deviation.

    Not LayerNormalization, which divides by n instead of n - 1 and adds epsilon to the variance.
    """

    def __init__(self, gamma: nn.Parameter, beta: nn.Parameter) -> None:
        """Take gamma and beta, float32 [hidden]."""
        super().__init__()
        self.gamma = gamma
        self.beta = beta

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normalize over the last axis of float32 [..., hidden]."""
        centred = hidden - hidden.mean(-1, keepdim=True)
        variance = (centred * centred).sum(-1, keepdim=True) / (len(self.gamma) - 1)
        return self.gamma * centred / (torch.sqrt(variance) + EPSILON) + self.beta


def with_uer_norms(backbone: nn.Module) -> nn.Module:
    """Replace every LayerNorm of an encoder, in place, by UER's with the same weights."""
    for parent in [*backbone.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, nn.LayerNorm):
                setattr(parent, name, UerNorm(child.weight, child.bias))
    return backbone


class UerModel(MultiExitModel):
    """A BERT with UER's segments, whose heads attend: they are given the mask as `blocked`.

    Segments are 1 for the first text, 2 for the second, and 1 throughout where the model takes no
    token types. UER has 0 for padding, which here is masked everywhere and never read.
    """

    def exits(
        self,
        input_ids: torch.Tensor,
        mask: torch.Tensor,
        token_type_ids: torch.Tensor | None,
        **more: Any,
    ) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """See `ExitModel.exits`."""
        first = torch.ones_like(input_ids)
        segments = first if token_type_ids is None else token_type_ids + 1
        blocked = mask if mask.dim() == 4 else additive_mask(mask)
        return super().exits(input_ids, mask, segments, blocked=blocked, **more)

"""Encoders whose rows get shorter on the way up (Length-Adaptive Transformer, PoWER-BERT).

Between attention and feed-forward of each layer, the tokens that the others attend to least are
dropped. How many stay is the knob `lengths`, read by the graph, so that one bundle serves every
length configuration. Padding neither votes nor competes, and kept tokens stay in order: what a row
answers does not depend on its padding or its batch.

A token that was dropped keeps the vector of the last layer that it passed. Answers for every token
come from these restored vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from effbert.exporter.layer_parts import LayerParts
from effbert.runtime.manifest import Knob

# Shares of a row's length are rounded up; a product that should be whole may be a little above.
ROUNDING = 1e-4
MANY = 1 << 20  # more tokens than any row has


def lengths_knob(layers: int) -> Knob:
    """The knob `lengths`: one share or count of tokens for each encoder layer."""
    return Knob(
        name="lengths",
        dtype="float32",
        minimum=0,
        maximum=8192,
        default=1.0,  # a share, unlike the integer
        never=1.0,
        per_exit=False,
        raising="later",
        unit="tokens",
        count=layers,
    )


@dataclass(frozen=True)
class DropRule:
    """How significance is counted and what is always kept.

    Attributes:
        keep_first: The first token is never dropped.
        ignore_self: Attention of a token to itself does not count (PoWER-BERT).
        restore: All tokens are given back, as token-level answers need.
    """

    keep_first: bool = True
    ignore_self: bool = False
    restore: bool = False


class LengthDropEncoder(nn.Module):
    """Stands in for a transformers encoder, and takes `lengths` beside its usual inputs."""

    def __init__(self, encoder: nn.Module, parts: LayerParts, rule: DropRule) -> None:
        """Take a BERT-like encoder, access to its layers' parts, and the rule."""
        super().__init__()
        self.encoder: Any = encoder
        self.parts = parts
        self.rule = rule
        self.config = encoder.config

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        lengths: Tensor,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Run all layers.

        Args:
            input_ids: int64 [batch, sequence].
            attention_mask: 0/1 [batch, sequence], or additive [batch, 1, 1, sequence].
            lengths: float32 [layers]: up to 1 a share of the row's tokens, above 1 a count plus
                a half.
            token_type_ids: int64 [batch, sequence].
        """
        mask = attention_mask
        alive = (mask[:, 0, 0, :] == 0) if mask.ndim == 4 else mask > 0
        total = alive.sum(1)
        hidden = self.parts.embed(self.encoder, input_ids, token_type_ids)
        restored = hidden
        slots, real = torch.arange(input_ids.shape[1]).expand_as(alive), alive
        states = [hidden]
        for index, layer in enumerate(self.parts.layers(self.encoder)):
            context, shares = self.parts.attend(layer, hidden, real)
            kept = self._most_attended(shares, real, _target(lengths[index], total))
            alive = alive & torch.gather(kept, 1, slots)
            hidden, real = _compact(context, kept)
            hidden = self.parts.feed_forward(layer, hidden)
            slots = (alive.long().cumsum(1) - 1).clamp(min=0)
            if self.rule.restore:
                back = slots[..., None].expand(-1, -1, hidden.shape[2])
                own = torch.gather(hidden, 1, back)
                restored = torch.where(alive[..., None], own, restored)
            states.append(restored if self.rule.restore else hidden)
        pooler = getattr(self.encoder, "pooler", None)
        return BaseModelOutputWithPooling(
            last_hidden_state=states[-1],
            pooler_output=None if pooler is None else pooler(states[-1]),
            hidden_states=tuple(states),
        )

    def _most_attended(self, shares: Tensor, real: Tensor, target: Tensor) -> Tensor:
        """Choose the `target` [batch] most attended tokens of each row: bool [batch, tokens].

        Ties go to the lower position.
        """
        if self.rule.ignore_self:
            shares = shares * (1 - torch.eye(shares.shape[2], dtype=shares.dtype))
        votes = (shares * real[:, None, :, None]).sum((1, 2))
        votes = torch.where(real, votes, -1.0)
        if self.rule.keep_first:
            votes = torch.where(_places(real) == 0, math.inf, votes)
        order = votes.sort(dim=1, descending=True, stable=True).indices
        chosen = _places(real) < target[:, None]
        return torch.zeros_like(real).scatter(1, order, chosen)


def _target(length: Tensor, total: Tensor) -> Tensor:
    """How many tokens of each row stay, int64 [batch], of its `total` real ones."""
    share = torch.ceil(length * total - ROUNDING).clamp(min=2)
    count = torch.where(length <= 1, share, torch.floor(length))
    return torch.minimum(count.long(), total)


def _compact(hidden: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Bring kept tokens to the front, in order; the rest of the longest row is padding."""
    # A symbol while torch traces: int() of it would make torch start over, and print its graph.
    longest: Any = kept.sum(1).max().item()
    torch._check(longest >= 1)
    torch._check(longest <= hidden.shape[1])
    places = _places(kept)
    last = torch.where(kept, places, places + MANY)
    order = last.sort(dim=1, stable=True).values[:, :longest]
    real = order < MANY
    chosen = torch.where(real, order, order - MANY)
    where = chosen[..., None].expand(-1, -1, hidden.shape[2])
    return torch.gather(hidden, 1, where), real


def _places(tokens: Tensor) -> Tensor:
    """0, 1, 2, ... in every row.

    Counted, because the number of tokens that are left is no tensor that could cross a cut.
    """
    return torch.ones_like(tokens, dtype=torch.int64).cumsum(1) - 1

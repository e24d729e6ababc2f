"""Encoders whose rows get shorter on the way up (Length-Adaptive Transformer, PoWER-BERT).

Between attention and feed-forward of each layer, the tokens that the others attend to least are
dropped. How many stay is the knob `lengths`, read by the graph, so that one bundle serves every
length configuration. Padding neither votes nor competes, and kept tokens stay in order: what a row
answers does not depend on its padding or its batch. The papers' code pads all rows to one length
instead, and its padding votes and competes like any token; `DropRule.pad_to` is that arithmetic.

A token that was dropped keeps the vector of the last layer that it passed. Answers for every token
come from these restored vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutputWithPooling

from effbert.exporter.encoders.layer_parts import LayerParts
from effbert.exporter.encoders.padded_rows import Rows, own_rows, padded_rows
from effbert.runtime.bundle.manifest import Knob

# Shares of a row's length are rounded up; a product that should be whole may be a little above.
ROUNDING = 1e-4
MANY = 1 << 20  # more tokens than any row has


def lengths_knob(layers: int) -> Knob:
    """Return the knob `lengths`: one share or count of tokens for each encoder layer."""
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
        pad_to: Every row gets this many tokens; None leaves padding out of it.
    """

    keep_first: bool = True
    ignore_self: bool = False
    restore: bool = False
    pad_to: int | None = None


class LengthDropEncoder(nn.Module):
    """Stands in for a transformers encoder, and takes `lengths` beside its usual inputs."""

    def __init__(self, encoder: nn.Module, parts: LayerParts, rule: DropRule) -> None:
        """Take a BERT-like encoder, access to its layers' parts, and the rule."""
        super().__init__()
        self.encoder: Any = encoder
        self.parts = parts
        self.rule = rule
        self.config: Any = encoder.config
        self.depth: int | None = None  # so many layers run, all of them if it is None
        self.last_drops = True  # false where nobody would notice what the last layer drops

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        lengths: Tensor,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Run the layers.

        Args:
            input_ids: int64 [batch, sequence].
            attention_mask: 0/1 [batch, sequence].
            lengths: float32 [layers]: up to 1 a share of the row's tokens, above 1 a count plus
                a half.
            token_type_ids: int64 [batch, sequence].
        """
        real = attention_mask > 0
        length = self.rule.pad_to
        if length is None:
            rows = own_rows(input_ids, token_type_ids, real)
        else:
            pad_id = self.config.pad_token_id or 0
            rows = padded_rows(input_ids, token_type_ids, real, length, pad_id)
        states = tuple(self._states(rows, lengths))
        pooler = getattr(self.encoder, "pooler", None)
        return BaseModelOutputWithPooling(
            last_hidden_state=states[-1],
            pooler_output=None if pooler is None else pooler(states[-1]),
            hidden_states=states,
        )

    def _states(self, rows: Rows, lengths: Tensor) -> Iterator[Tensor]:
        """Return the embeddings, and what comes out of each layer."""
        hidden = self.parts.embed(self.encoder, rows.ids, rows.types)
        yield hidden
        restored, (alive, read) = hidden, (rows.counted, rows.read)
        slots, counted = torch.arange(rows.ids.shape[1]).expand_as(alive), alive
        layers = [*self.parts.layers(self.encoder)][: self.depth]
        for index, layer in enumerate(layers):
            if 0 < index == len(layers) - 1 and not self.last_drops:
                yield self.parts.feed_forward(layer, self.parts.attend(layer, hidden, read, 0)[0])
                return
            there = counted.sum(1)
            stay = _target(lengths[index], rows.total, there)
            context, shares = self.parts.attend(layer, hidden, read, _some_leave(stay, there))
            ranked = self._most_attended(shares, counted, stay)
            positions, count = _in_order(ranked, stay)
            if self.rule.restore:
                kept = torch.zeros_like(counted).scatter(1, ranked, count)
                alive = alive & torch.gather(kept, 1, slots)
            counted = count
            read = counted if rows.positions is None else torch.gather(read, 1, positions)
            hidden = self.parts.feed_forward(layer, _vectors(context, positions))
            if not self.rule.restore:
                yield hidden
                continue
            slots = (alive.long().cumsum(1) - 1).clamp(min=0)
            restored = torch.where(alive[..., None], _vectors(hidden, slots), restored)
            yield restored if rows.positions is None else _vectors(restored, rows.positions)

    def _most_attended(self, shares: Tensor, counted: Tensor, stay: Tensor) -> Tensor:
        """Where the most attended tokens of each row are, int64 [batch, the largest of `stay`].

        Only `counted` ones vote and compete. Ties go to the lower position.
        """
        if self.rule.ignore_self:
            positions = _positions(counted)
            itself = positions[:, :, None] == positions[:, None, :]
            shares = torch.where(itself[:, None], 0.0, shares)
        # Expanded, because engines do not stretch one head to none.
        votes = counted.to(shares.dtype)[:, None, None, :].expand(-1, shares.shape[1], -1, -1)
        votes = (votes @ shares).sum((1, 2))
        votes = torch.where(counted, votes, -1.0)
        if self.rule.keep_first:
            votes = pad(votes[:, 1:], (1, 0), value=math.inf)
        longest = _number(stay.max(), counted.shape[1])
        return votes.sort(dim=1, descending=True, stable=True).indices[:, :longest]


def _target(length: Tensor, total: Tensor, there: Tensor) -> Tensor:
    """How many tokens of each row stay, int64 [batch], of those that are `there`.

    A share is one of the row's `total`.
    """
    share = torch.ceil(length * total - ROUNDING).clamp(min=2)
    return torch.minimum(torch.where(length <= 1, share, length).long(), there)


def _some_leave(stay: Tensor, there: Tensor) -> int:
    """1 if fewer tokens of some row stay than are there, else 0."""
    return _number((there - stay).max().clamp(max=1), 1, least=0)


def _in_order(ranked: Tensor, stay: Tensor) -> tuple[Tensor, Tensor]:
    """Where tokens that stay are, in order, int64 [batch, longest], and which of these count.

    The rest of the longest row is filled with its first token. What counts is read off them,
    although `stay` tells it too: the exporter's cut carries what depends on a matrix product, and
    computes the rest again, from the rows that went on, whose longest may be another.
    """
    stays = torch.arange(ranked.shape[1]) < stay[:, None]
    positions = torch.where(stays, ranked, MANY).sort(dim=1, stable=True).values
    counted = positions < MANY
    return torch.where(counted, positions, 0), counted


def _number(value: Tensor, most: int, least: int = 1) -> int:
    """Return a symbol while torch traces: int() of it would make torch start over."""
    number: Any = value.item()
    torch._check(number >= least)
    torch._check(number <= most)
    return number


def _vectors(hidden: Tensor, positions: Tensor) -> Tensor:
    """Return the vectors [batch, n, hidden] at `positions` [batch, n]."""
    return torch.gather(hidden, 1, positions[..., None].expand(-1, -1, hidden.shape[2]))


def _positions(tokens: Tensor) -> Tensor:
    """0, 1, 2, ... in every row.

    Counted, because the number of tokens that are left is no tensor that could cross a cut.
    """
    return torch.ones_like(tokens, dtype=torch.int64).cumsum(1) - 1

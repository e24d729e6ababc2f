"""What counts as a row where tokens are dropped: the caller's tokens, or those and padding.

The papers' code pads every row to one length, and padding takes part in what follows. Here that
happens inside the graph, so a row's answer does not depend on how far the caller padded it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rows(NamedTuple):
    """Rows before the first layer; `tokens` is what a row has at most.

    Attributes:
        ids: int64 [batch, tokens], token ids.
        types: int64 [batch, tokens], token types, where the model has any.
        counted: bool [batch, tokens], true for tokens that vote, compete and can be kept.
        read: bool [batch, tokens], true for tokens that others attend to.
        total: int64 [batch] or [1], how many count.
        positions: int64 [batch, sequence], where the caller's tokens are now; None if they stayed.
    """

    ids: Tensor
    types: Tensor | None
    counted: Tensor
    read: Tensor
    total: Tensor
    positions: Tensor | None


def own_rows(ids: Tensor, types: Tensor | None, real: Tensor) -> Rows:
    """Rows as the caller sent them; `real` is bool [batch, sequence], false for padding."""
    return Rows(ids, types, counted=real, read=real, total=real.sum(1), positions=None)


def padded_rows(ids: Tensor, types: Tensor | None, real: Tensor, length: int, pad_id: int) -> Rows:
    """Rows of `length` tokens, padding counted; the caller's padding goes, wherever it is.

    Args:
        ids: int64 [batch, sequence], of at most `length` tokens.
        types: int64 [batch, sequence] or None.
        real: bool [batch, sequence], false for the caller's padding.
        length: Tokens of every row.
        pad_id: The token id of padding; its type is 0.
    """
    positions = (real.long().cumsum(1) - 1).clamp(min=0)
    columns = torch.ones_like(positions).cumsum(1) - 1
    # The caller's padding moves behind the row, where it is cut off.
    target = torch.where(real, positions, columns + length)

    def put(values: Tensor, fill: int) -> Tensor:
        room = values.new_full((values.shape[0], 2 * length), fill)
        return room.scatter(1, target, values)[:, :length]

    read = put(real.long(), 0) > 0
    return Rows(
        put(ids, pad_id),
        None if types is None else put(types, 0),
        counted=torch.ones_like(read),
        read=read,
        total=torch.tensor([length]),
        positions=positions,
    )

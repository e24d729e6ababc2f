"""Softmax attention with its shares in sight, for layers that transformers has no class for."""

from __future__ import annotations

from torch import Tensor


def attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor, constant: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Attend with projected vectors [batch, tokens, heads * size]; queries may be fewer than keys.

    Args:
        query: of the tokens that attend.
        key: of those attended to.
        value: likewise.
        heads: how many share a vector.
        mask: additive, float32 [batch, 1, 1, keys].
        constant: added to the denominator of the softmax, exponentials relative to the largest.

    Returns:
        The context, shaped as the query, and the shares [batch, heads, queries, keys].
    """

    def split(x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)

    scores = split(query) @ split(key).transpose(2, 3) * (query.shape[2] // heads) ** -0.5
    shares = (scores + mask).softmax(-1)
    if constant:  # the largest share is 1 / denominator
        shares = shares / (1 + constant * shares.amax(-1, keepdim=True))
    context = (shares @ split(value)).transpose(1, 2).reshape(query.shape)
    return context, shares

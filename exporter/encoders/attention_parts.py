"""Softmax attention with its shares in sight, for layers that transformers has no class for."""

from __future__ import annotations

from torch import Tensor


def compute_attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor, constant: float = 0.0
) -> Tensor:
    """Attend with projected vectors [batch, tokens, heads * size]; queries may be fewer than keys.

    Args:
        query: Of the tokens that attend.
        key: Of those attended to.
        value: Likewise.
        heads: How many share a vector.
        mask: Additive, float32 [batch, 1, 1, keys].
        constant: See `attention_shares`.

    Returns:
        The context, shaped as the query.
    """
    shares = attention_shares(query, key, heads, mask, constant)
    return (shares @ _split(value, heads).transpose(1, 2)).transpose(1, 2).reshape(query.shape)


def attention_shares(
    query: Tensor,
    key: Tensor,
    heads: int,
    mask: Tensor,
    constant: float = 0.0,
    first: int | None = None,
) -> Tensor:
    """How much each token attends to each other, [batch, heads, queries, keys]; see `attention`.

    Args:
        query: Of the tokens that attend.
        key: Of those attended to.
        heads: How many share a vector.
        mask: Additive, float32 [batch, 1, 1, keys].
        constant: Added to the denominator of the softmax, exponentials relative to the largest.
        first: So many heads only.
    """
    queries = _split(query, heads)[:, :, :first].transpose(1, 2)
    keys = _split(key, heads)[:, :, :first].transpose(1, 2)
    scores = queries @ keys.transpose(2, 3) * (query.shape[2] // heads) ** -0.5
    shares = (scores + mask).softmax(-1)
    if constant:  # the largest share is 1 / denominator
        shares = shares / (1 + constant * shares.amax(-1, keepdim=True))
    return shares


def _split(vectors: Tensor, heads: int) -> Tensor:
    """As [batch, tokens, heads, size]."""
    return vectors.view(*vectors.shape[:2], heads, vectors.shape[2] // heads)

"""FLOPs of texts whose tokens are dropped, from what the manifest says of full texts.

The manifest has the FLOPs of a segment as c0 + c1 n + c2 n^2. In a BERT of hidden size h a layer
that n tokens enter and m leave costs 8 h^2 n for the projections of its attention, 4 h n^2 for the
attention itself, and the rest of c1 for each of the m tokens that reach its feed-forward part.
Where m < n, choosing them costs another 2 h n^2. A last layer of which only the first token is read
costs 4 h^2 n for keys and values and 8 h n for the attention of two queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from effbert.runtime.bundle.manifest import Manifest, Segment

ROUNDING = 1e-4  # the graph forgives a share that much before it rounds up
LEAST = 2


def tokens_kept(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Tokens that enter each layer and that leave the last, int64 [layers + 1, rows].

    Args:
        tokens: int64 [rows], tokens of each row.
        lengths: [layers], what leaves each layer: shares of the row's tokens, or integer counts.
    """
    if lengths.dtype.kind == "i":
        left = np.repeat(lengths[:, None], len(tokens), axis=1)
    else:
        shares = np.outer(lengths.astype(np.float32), tokens.astype(np.float32))
        left = np.maximum(np.ceil(shares - ROUNDING), LEAST).astype(np.int64)
    return np.vstack([tokens, np.minimum(left, tokens)])


def tokens_kept_at(
    manifest: Manifest, knobs: Mapping[str, Any], tokens: np.ndarray
) -> np.ndarray | None:
    """As `tokens_kept`, at knob values of a bundle; None if no token is dropped."""
    for knob in manifest.knobs:
        if knob.count is not None and (value := knobs.get(knob.name, knob.never)) != knob.never:
            return tokens_kept(tokens, np.resize(np.asarray(value), knob.count))
    return None


def row_flops(manifest: Manifest, kept: np.ndarray | None, tokens: np.ndarray) -> np.ndarray:
    """FLOPs of each row until each exit, float64 [exits, rows].

    Args:
        manifest: Of the bundle.
        kept: What `tokens_kept` found, or None if no token is dropped.
        tokens: int64 [rows], tokens of each row.
    """
    costs, first = [], 0
    for segment in manifest.segments:
        if kept is None:
            constant, linear, quadratic = segment.flops
            costs.append(constant + linear * tokens + quadratic * tokens.astype(float) ** 2)
        else:
            costs.append(_dropping(segment, kept[first : segment.layer + 1]))
        first = segment.layer
    return np.cumsum(costs, axis=0)


def _dropping(segment: Segment, kept: np.ndarray) -> np.ndarray:
    """FLOPs of one segment, whose layers are entered and left by `kept` [its layers + 1, rows]."""
    constant, linear, quadratic = segment.flops
    layers = len(kept) - 1
    if layers == 0:
        return np.full(kept.shape[1], float(constant))
    entering, leaving = kept[:-1].astype(float), kept[1:].astype(float)
    # Where only the first token is read, the last layer needs keys and values of all tokens, and
    # the rest of it is among the constants: whole layers are those that compute every token.
    whole = layers - 1 if constant > linear / (2 * layers) else layers
    if whole == 0:
        return np.asarray(constant + linear * entering[0])
    hidden = quadratic / (4 * whole)
    projections = min(8 * hidden**2, linear / layers)
    narrow = (4 * hidden**2 + 8 * hidden) * (layers - whole)
    per_token = (linear - whole * projections - narrow) / whole
    choice = np.where(leaving < entering, 2 * hidden, 0)
    attention = projections * entering + (4 * hidden + choice) * entering**2
    total = attention[:whole].sum(0) + per_token * leaving[:whole].sum(0)
    return np.asarray(constant + total + narrow * entering[-1])

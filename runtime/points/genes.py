"""Length configurations as genes: where the search starts, how genes mutate and cross.

The search of the Length-Adaptive Transformer (Kim, Cho, ACL 2021, section 3.3): a gene holds, for
the longest text, how many tokens leave each encoder layer.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

LEAST = 2  # tokens that always stay
STEEPEST = 0.2  # share of the tokens that each layer of the cheapest gene drops
Gene = tuple[int, ...]


class Space(Struct, frozen=True):
    """What is searched: the encoder layers, and the tokens of the longest text."""

    layers: int
    tokens: int

    def full(self) -> Gene:
        """Return the gene that drops no token."""
        return (self.tokens,) * self.layers

    def holds(self, gene: Gene) -> bool:
        """Tell whether a gene keeps at least as many tokens as the cheapest schedule."""
        return sum(gene) >= sum(falling_lengths(STEEPEST, self.layers, self.tokens))


def falling_lengths(drop: float, layers: int, tokens: int) -> Gene:
    """Return the lengths if every layer drops the share `drop` of its tokens."""
    lengths = []
    left = tokens
    for _ in range(layers):
        left = max(min(LEAST, tokens), math.ceil(left * (1 - drop)))
        lengths.append(left)
    return tuple(lengths)


def share_kept(drop: float, layers: int, tokens: int) -> float:
    """Return the share of all layers' tokens that `falling_lengths` keeps."""
    return sum(falling_lengths(drop, layers, tokens)) / (layers * tokens)


def drop_that_keeps(share: float, layers: int, tokens: int) -> float:
    """Return the largest drop that keeps at least `share`: `share_kept` inverted by bisection."""
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if share_kept(middle, layers, tokens) >= share else (low, middle)
    return low


def first_genes(space: Space, count: int) -> list[Gene]:
    """Return the full gene, the cheapest, and `count` more from cheap to expensive."""
    least = share_kept(STEEPEST, space.layers, space.tokens)
    drops = [
        drop_that_keeps(float(share), space.layers, space.tokens)
        for share in np.linspace(least, 1, count + 2)[:-1]
    ]
    genes = [falling_lengths(drop, space.layers, space.tokens) for drop in drops]
    return [gene for gene in dict.fromkeys([space.full(), *genes]) if space.holds(gene)]


def mutated(gene: Gene, space: Space, probability: float, random: np.random.Generator) -> Gene:
    """Draw each length anew with this probability, between its new left and old right neighbour."""
    lengths: list[int] = []
    for layer, length in enumerate(gene):
        most = lengths[-1] if lengths else space.tokens
        right = gene[layer + 1 :]
        least = right[0] if right else min(LEAST, space.tokens)
        fresh = random.random() < probability
        lengths.append(int(random.integers(least, most, endpoint=True)) if fresh else length)
    return tuple(lengths)


def crossed(one: Gene, other: Gene) -> Gene:
    """Return the mean of two genes, rounded up."""
    return tuple((a + b + 1) // 2 for a, b in zip(one, other, strict=True))

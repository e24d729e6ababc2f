"""Length configurations as genes: where the search starts, how genes mutate and cross.

The search of the Length-Adaptive Transformer (Kim, Cho, ACL 2021, section 3.3): a gene holds, for
the longest text, how many tokens leave each encoder layer. Beside that stands a level of the exit
threshold, 0 for never, which the paper does not have.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

LEAST = 2  # tokens that always stay
STEEPEST = 0.2  # share of the tokens that each layer of the cheapest gene drops


class Gene(Struct, frozen=True):
    """Tokens that leave each layer, empty if lengths are not searched; level of the threshold."""

    lengths: tuple[int, ...] = ()
    level: int = 0


class Space(Struct, frozen=True):
    """What is searched.

    Attributes:
        layers: Encoder layers, 0 if lengths are not searched.
        tokens: Tokens of the longest text.
        levels: Thresholds to choose from, the one that never exits included.
    """

    layers: int
    tokens: int
    levels: int

    def full(self) -> Gene:
        """The gene that drops no token and exits nowhere."""
        return Gene((self.tokens,) * self.layers)

    def holds(self, gene: Gene) -> bool:
        """Tell whether a gene keeps at least as many tokens as the cheapest schedule."""
        return sum(gene.lengths) >= sum(falling(STEEPEST, self.layers, self.tokens))


def falling(drop: float, layers: int, tokens: int) -> tuple[int, ...]:
    """The lengths if every layer drops the share `drop` of its tokens."""
    lengths = []
    left = tokens
    for _ in range(layers):
        left = max(min(LEAST, tokens), math.ceil(left * (1 - drop)))
        lengths.append(left)
    return tuple(lengths)


def kept(drop: float, layers: int, tokens: int) -> float:
    """The share of all layers' tokens that `falling` keeps."""
    return sum(falling(drop, layers, tokens)) / (layers * tokens)


def drop_that_keeps(share: float, layers: int, tokens: int) -> float:
    """The inverse of `kept`, by bisection: the largest drop that keeps at least `share`."""
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle, layers, tokens) >= share else (low, middle)
    return low


def first_genes(space: Space, count: int) -> list[Gene]:
    """`count` genes between the extremes, and the extremes.

    Where lengths and thresholds are searched together, half of the genes only drop tokens and half
    only exit; crossover brings both together.
    """
    full = space.full()
    genes = [full]
    dropping = 0 if not space.layers else count if space.levels == 1 else (count + 1) // 2
    if dropping:
        least = kept(STEEPEST, space.layers, space.tokens)
        for share in np.linspace(least, 1, dropping + 2)[:-1]:
            drop = drop_that_keeps(float(share), space.layers, space.tokens)
            genes.append(Gene(falling(drop, space.layers, space.tokens)))
    if space.levels > 1:
        levels = np.linspace(0, space.levels - 1, count - dropping + 2)[1:]
        genes += [Gene(full.lengths, round(float(level))) for level in levels]
    return [gene for gene in dict.fromkeys(genes) if space.holds(gene)]


def mutated(gene: Gene, space: Space, probability: float, random: np.random.Generator) -> Gene:
    """Draws each length anew with this probability, between its new left and old right neighbour.

    The level is drawn from all levels.
    """
    lengths: list[int] = []
    for layer, length in enumerate(gene.lengths):
        most = lengths[-1] if lengths else space.tokens
        right = gene.lengths[layer + 1 :]
        least = right[0] if right else min(LEAST, space.tokens)
        fresh = random.random() < probability
        lengths.append(int(random.integers(least, most, endpoint=True)) if fresh else length)
    level = gene.level
    if space.levels > 1 and random.random() < probability:
        level = int(random.integers(space.levels))
    return Gene(tuple(lengths), level)


def crossed(one: Gene, other: Gene) -> Gene:
    """The mean of two genes, rounded up."""
    lengths = tuple((a + b + 1) // 2 for a, b in zip(one.lengths, other.lengths, strict=True))
    return Gene(lengths, (one.level + other.level + 1) // 2)

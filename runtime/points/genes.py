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
        """Return the gene that drops no token and exits nowhere."""
        return Gene((self.tokens,) * self.layers)

    def holds(self, gene: Gene) -> bool:
        """Tell whether a gene keeps at least as many tokens as the cheapest schedule."""
        return sum(gene.lengths) >= sum(falling_lengths(STEEPEST, self.layers, self.tokens))


def falling_lengths(drop: float, layers: int, tokens: int) -> tuple[int, ...]:
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
    """Return the full gene, and about `count` others from one extreme to the other.

    Where lengths and thresholds are searched together, a third of the genes only drop tokens, a
    third only exit, and a third do both: the more one drops, the later it exits.
    """
    full = space.full()
    if space.levels == 1:
        genes = [Gene(lengths) for lengths in _schedules(space, count)] if space.layers else []
    elif not space.layers:
        genes = [Gene(full.lengths, level) for level in _spread(space, count)]
    else:
        schedules, levels = _schedules(space, count // 3), _spread(space, count // 3)
        genes = [Gene(lengths) for lengths in schedules]
        genes += [Gene(full.lengths, level) for level in levels]
        genes += [Gene(*both) for both in zip(schedules, levels, strict=True)]
    return [gene for gene in dict.fromkeys([full, *genes]) if space.holds(gene)]


def _schedules(space: Space, count: int) -> list[tuple[int, ...]]:
    """Return the cheapest lengths and `count` more, from cheap to expensive."""
    least = share_kept(STEEPEST, space.layers, space.tokens)
    drops = [
        drop_that_keeps(float(share), space.layers, space.tokens)
        for share in np.linspace(least, 1, count + 2)[:-1]
    ]
    return [falling_lengths(drop, space.layers, space.tokens) for drop in drops]


def _spread(space: Space, count: int) -> list[int]:
    """`count` levels and the last one, from late exits to early ones."""
    return [round(float(level)) for level in np.linspace(0, space.levels - 1, count + 2)[1:]]


def mutated(gene: Gene, space: Space, probability: float, random: np.random.Generator) -> Gene:
    """Draw each length anew with this probability, between its new left and old right neighbour.

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
    """Return the mean of two genes, rounded up."""
    lengths = tuple((a + b + 1) // 2 for a, b in zip(one.lengths, other.lengths, strict=True))
    return Gene(lengths, (one.level + other.level + 1) // 2)


def swapped(one: Gene, other: Gene) -> Gene:
    """Return the lengths of one gene with the threshold of the other."""
    return Gene(one.lengths, other.level)

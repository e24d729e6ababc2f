"""The evolution: a population of the best genes, mutated and crossed generation by generation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from msgspec import Struct

from effbert.runtime.points.genes import Gene, Space, crossed, first_genes, mutated, swapped

SWAPS = 0.5  # share of the crossovers, where lengths and thresholds are searched together
TRIES = 100  # draws for each gene wanted; small spaces run out of new ones


class Settings(Struct, frozen=True):
    """How the search proceeds; the defaults are those of the Length-Adaptive Transformer."""

    population: int = 20
    mutations: int = 30
    crossovers: int = 30
    mutation_probability: float = 0.5
    seed: int = 0


class Evaluated(Struct, frozen=True):
    """A gene with its quality and its cost, both shares, where it came up and how."""

    gene: Gene
    quality: float
    cost: float
    generation: int
    method: str


Evaluate = Callable[[Gene, int, str], Evaluated]


def evolve(
    space: Space, settings: Settings, generations: int, evaluate: Evaluate
) -> list[Evaluated]:
    """Search, and return every gene evaluated, the full one first.

    What is proposed depends on the seed, the generation and what was evaluated before, nothing
    else: if `evaluate` remembers, a search that was interrupted goes on as if it had not been.

    Args:
        space: What is searched.
        settings: Sizes, probability, seed.
        generations: How often the population is renewed.
        evaluate: Takes a gene, its generation, and "first", "mutation" or "crossover".
    """
    found: dict[Gene, Evaluated] = {}
    for gene in first_genes(space, settings.population):
        found[gene] = evaluate(gene, 0, "first")
    for generation in range(1, generations + 1):
        random = np.random.default_rng([settings.seed, generation])
        parents = [item.gene for item in survivors([*found.values()])]
        for gene, method in _children(parents, space, settings, found, random).items():
            found[gene] = evaluate(gene, generation, method)
    return [*found.values()]


def pareto_front(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the genes that none beats in quality at the same or a lower cost, cheapest first."""
    front: list[Evaluated] = []
    for item in sorted(evaluated, key=lambda item: (item.cost, -item.quality)):
        if not front or item.quality > front[-1].quality:
            front.append(item)
    return front


def survivors(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the Pareto front and the most expensive gene, whatever its quality."""
    front = pareto_front(evaluated)
    dearest = max(evaluated, key=lambda item: item.cost)
    return front if dearest in front else [*front, dearest]


def _children(
    parents: Sequence[Gene],
    space: Space,
    settings: Settings,
    seen: Collection[Gene],
    random: np.random.Generator,
) -> dict[Gene, str]:
    """Return new genes with the method that made them, at most as many as the settings ask for."""

    def mutation() -> Gene:
        parent = parents[int(random.integers(len(parents)))]
        return mutated(parent, space, settings.mutation_probability, random)

    def crossover() -> Gene:
        one, other = (parents[each] for each in random.choice(len(parents), 2, replace=False))
        swap = space.layers and space.levels > 1 and random.random() < SWAPS
        return swapped(one, other) if swap else crossed(one, other)

    methods = [("mutation", mutation, settings.mutations)]
    if len(parents) > 1:
        methods.append(("crossover", crossover, settings.crossovers))
    children: dict[Gene, str] = {}
    for name, make, wanted in methods:
        enough = len(children) + wanted
        for _ in range(TRIES * wanted):
            if len(children) == enough:
                break
            child = make()
            if child not in seen and space.holds(child):
                children.setdefault(child, name)
    return children

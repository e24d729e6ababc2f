"""The evolution: a population of the best genes, mutated and crossed generation by generation.

A gene is judged by its outcomes, one for each threshold of its exits: the thresholds are swept,
only the lengths evolve.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from effbert.runtime.points.genes import Gene, Space, crossed, first_genes, mutated

TRIES = 100  # draws for each gene wanted; small spaces run out of new ones


class Settings(Struct, frozen=True):
    """How the evolution proceeds; the defaults are those of the Length-Adaptive Transformer."""

    population: int = 20
    mutations: int = 30
    crossovers: int = 30
    mutation_probability: float = 0.5
    seed: int = 0


class Outcome(NamedTuple):
    """The quality at a threshold, and the cost as a share of that of the full model."""

    quality: float
    cost: float


class Evaluated(Struct, frozen=True):
    """A gene with its outcomes, where it came up and how."""

    gene: Gene
    outcomes: tuple[Outcome, ...]
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


def pareto_front(outcomes: Sequence[tuple[float, float]]) -> list[int]:
    """Find the outcomes (quality, cost) that none beats in quality at the same or a lower cost.

    Returns:
        Their indices, the cheapest first.
    """
    front: list[int] = []
    order = sorted(range(len(outcomes)), key=lambda at: (outcomes[at][1], -outcomes[at][0]))
    for index in order:
        if not front or outcomes[index][0] > outcomes[front[-1]][0]:
            front.append(index)
    return front


def on_front(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the genes that have an outcome on the front of all, the cheapest first."""
    pairs = [(item, outcome) for item in evaluated for outcome in item.outcomes]
    front = pareto_front([outcome for _, outcome in pairs])
    return [*{pairs[index][0].gene: pairs[index][0] for index in front}.values()]


def survivors(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the genes on the front and the most expensive one, whatever its quality."""
    front = on_front(evaluated)
    dearest = max(evaluated, key=lambda item: max(outcome.cost for outcome in item.outcomes))
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
        return crossed(one, other)

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

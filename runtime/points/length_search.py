"""Length configurations worth a pass: evolved on some examples, for others to choose from.

Every configuration is answered once at every exit, and its thresholds are swept. The examples that
the lengths evolve on are not those that choose: the best of a thousand tries is lucky on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from effbert.runtime.points.evolution import (
    Evaluated,
    Outcome,
    Settings,
    evolve,
    on_front,
    pareto_front,
)
from effbert.runtime.points.examples import Example
from effbert.runtime.points.genes import Gene, Space
from effbert.runtime.points.measuring import Measuring
from effbert.runtime.points.one_pass import graded, in_order, joined, prepare
from effbert.runtime.points.store import Store
from effbert.runtime.points.sweep import thresholds_to_try
from effbert.runtime.points.variant_facts import VariantFacts, lengths_knob
from effbert.runtime.texts.tokenization import TextEncoder

SEARCHED = 2048  # examples that lengths evolve on, at most, and at most half of all
LEVELS = 32  # thresholds tried for each configuration
FINALISTS = 16  # configurations that get a pass over all examples


@dataclass(frozen=True)
class Evolution:
    """How lengths evolve: generations, and the settings of each."""

    generations: int = 30
    settings: Settings = field(default_factory=Settings)

    @property
    def most(self) -> int:
        """How many configurations are evaluated at most."""
        each = self.settings.mutations + self.settings.crossovers
        return 2 + self.settings.population + self.generations * each


@dataclass(frozen=True)
class Found:
    """The outcome.

    Attributes:
        variants: The finalists on all examples.
        others: int64, indices of the examples that the lengths did not evolve on.
        evaluated: Every configuration.
    """

    variants: list[VariantFacts]
    others: np.ndarray
    evaluated: list[Evaluated]


def search_lengths(
    measuring: Measuring,
    full: VariantFacts,
    evolution: Evolution,
    tell: Callable[[Evaluated], None] = lambda item: None,
) -> Found:
    """Evolve length configurations of the full model.

    Args:
        measuring: Of a bundle with the knob.
        full: The full model's facts.
        evolution: How.
        tell: Told each configuration.

    Raises:
        RunError: The engine failed, or what is found cannot be kept.
    """
    count = len(full.found.tokens)
    step = max(2, math.ceil(count / SEARCHED))
    searched = np.arange(0, count, step) if count > 1 else np.zeros(1, dtype=int)
    judge = _Judge(measuring, full.of_rows(searched), step)
    settings = evolution.settings
    file = measuring.kept_at("lengths", measuring.cost, measuring.metric.name, settings)
    store = Store(file.with_suffix(".jsonl"))

    def evaluate(gene: Gene, generation: int, method: str) -> Evaluated:
        item = store.known.get(gene)
        if item is None:
            item = Evaluated(gene, judge.outcomes(gene), generation, method)
            store.add(item)
        tell(item)
        return item

    try:
        evaluated = evolve(judge.space, settings, evolution.generations, evaluate)
    finally:
        store.close()
    front = [item for item in on_front(evaluated) if item.gene != judge.space.full()]
    spread = np.linspace(0, len(front) - 1, min(FINALISTS, len(front))).round().astype(int)
    ways = [(full.manifest, judge.selected(front[index].gene)) for index in spread]
    others = np.setdiff1d(np.arange(count), searched) if count > 1 else searched
    return Found(measuring.measure(ways), others, evaluated)


class _Judge:
    """Tells the outcomes of genes on some examples, which stay in memory."""

    def __init__(self, measuring: Measuring, full: VariantFacts, step: int) -> None:
        knob = lengths_knob(measuring.manifest)
        assert knob is not None
        assert knob.count is not None
        self._knob, self._measuring, self._full = knob, measuring, full
        examples = [example for at, example in enumerate(measuring.examples) if at % step == 0]
        self.space = Space(knob.count, int(full.found.tokens[full.rows.indices].max()))
        self._prepared, self._right = self._answer(examples)

    def _answer(self, examples: Sequence[Example]) -> tuple[Any, list[dict[str, np.ndarray]]]:
        """Tokenize the examples, and keep what the full model says last."""
        session = self._measuring.session
        prepared = prepare(TextEncoder(session.bundle), examples)
        right = []
        for batch in prepared.batches:
            answers = session.run_exits(batch.inputs, self._measuring.answering)
            right.append({name: value[-1:].copy() for name, value in answers.items()})
        return prepared, right

    def selected(self, gene: Gene) -> dict[str, Any]:
        """Return the knob values of a gene.

        A length becomes a share of the longest text, rounded down: a share of it is rounded up.
        """
        shares = [math.floor(1e4 * each / self.space.tokens) / 1e4 for each in gene]
        return {**self._full.selected, self._knob.name: shares}

    def outcomes(self, gene: Gene) -> tuple[Outcome, ...]:
        """Answer the examples at every exit, sweep the thresholds, and keep the front."""
        measuring, selected = self._measuring, self.selected(gene)
        knobs = measuring.fixed | selected
        parts = [
            graded(
                measuring.manifest, batch, measuring.session.run_exits(batch.inputs, knobs), right
            )
            for batch, right in zip(self._prepared.batches, self._right, strict=True)
        ]
        found = joined([in_order(parts, self._prepared.back)])
        rows = measuring.facts_of(self._full.manifest, selected, found).rows
        thresholds = [-np.inf]
        if measuring.knob is not None:
            tried = thresholds_to_try(rows.signals, measuring.knob)
            chosen = np.linspace(0, len(tried) - 1, min(LEVELS, len(tried))).round().astype(int)
            thresholds += tried[chosen].tolist()
        swept = rows.sweep(thresholds)
        pairs = [
            Outcome(float(quality), float(cost / self._full.rows.full()[1]))
            for quality, cost in zip(swept.quality, swept.cost, strict=True)
        ]
        return tuple(pairs[index] for index in pareto_front(pairs))

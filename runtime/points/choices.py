"""Knob values for what a user wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from effbert.runtime.bundle.manifest import Exits, to_float
from effbert.runtime.points.evolution import pareto_front
from effbert.runtime.points.guarantee import earliest_safe
from effbert.runtime.points.metrics import row_losses
from effbert.runtime.points.per_exit import exits_by_share, thresholds_by_share
from effbert.runtime.points.sweep import knob_values, thresholds_to_try
from effbert.runtime.points.targets import (
    COARSE,
    Target,
    choose,
    last_kept,
    spread_indices,
    surely_kept,
)
from effbert.runtime.points.variant_facts import VariantFacts

GRID_ROWS = 200  # rows that only say where thresholds lie, where a guarantee is asked for
FRONT = 20  # points of a front, at most
WORTH = 0.95  # a threshold for each exit must cost less than this share of one for all


class Choice(NamedTuple):
    """Knob values, and what they give on the examples they were chosen on.

    Attributes:
        knobs: As a session takes them.
        quality: The metric's.
        cost: Of a text, in the unit of the costs.
        layers: [rows], the encoder layers where they leave.
        threshold: In the sense of the sweep; minus infinity is full depth.
        exits: How many leave where, and their signals; None if no sweep foresees that.
    """

    knobs: dict[str, Any]
    quality: float
    cost: float
    layers: np.ndarray
    threshold: float | np.ndarray
    exits: Exits | None


def choose_knobs(variants: Sequence[VariantFacts], target: Target) -> Choice | None:
    """Find the cheapest choice that keeps a quality, or the best that keeps a cost.

    Args:
        variants: Sizes and lengths of the bundle, the full model first.
        target: What is wanted.

    Returns:
        None if nothing keeps it.
    """
    found = [choice for variant in variants for choice in _candidates(variant, target)]
    if target.bounds_cost:
        return max(found, key=lambda each: (each.quality, -each.cost), default=None)
    return min(found, key=lambda each: each.cost, default=None)


def _candidates(variant: VariantFacts, target: Target) -> Iterator[Choice]:
    rows = variant.rows
    if rows.largest is None or target.bounds_cost:
        if target.kept(rows.sweep([-np.inf]), *rows.full()).all():
            yield make_choice(variant, -np.inf)
    elif surely_kept(rows, variant.exits_at(-np.inf), target):
        yield make_choice(variant, -np.inf)
    if variant.knob is None:
        return
    one = thresholds_to_try(rows.signals, variant.knob)
    index = choose(rows, [*one.tolist()], target)
    most = np.inf
    if index is not None:
        alone = make_choice(variant, float(one[index]))
        most = WORTH * alone.cost
        yield alone
    if variant.knob.per_exit and rows.signals.exits > 2 and not target.bounds_cost:
        same = variant.found.facts["same"][:, rows.indices]
        ways = exits_by_share(rows.signals, same)
        index = last_kept(rows, ways.__getitem__, len(ways), target)
        if index is not None:
            apart = make_choice(variant, thresholds_by_share(rows.signals, same)[index])
            if apart.cost < most:
                yield apart


def pareto_choices(
    variants: Sequence[VariantFacts],
) -> tuple[list[Choice], list[tuple[float, float]]]:
    """Find the choices that none beats in quality at the same or a lower cost, cheapest first.

    Args:
        variants: Sizes and lengths of the bundle.

    Returns:
        At most `FRONT` of them, spread over the front; quality and cost of all that were tried.
    """
    tried: list[tuple[VariantFacts, float]] = []
    outcomes: list[tuple[float, float]] = []
    for variant in variants:
        thresholds = [-np.inf]
        if variant.knob is not None:
            every = thresholds_to_try(variant.rows.signals, variant.knob)
            thresholds += every[spread_indices(len(every), COARSE)].tolist()
        swept = variant.rows.sweep(thresholds)
        tried += [(variant, threshold) for threshold in thresholds]
        outcomes += zip(swept.quality.tolist(), swept.cost.tolist(), strict=True)
    front = pareto_front(outcomes)
    chosen = [make_choice(*tried[front[index]]) for index in spread_indices(len(front), FRONT)]
    return chosen, outcomes


def make_choice(variant: VariantFacts, threshold: float | np.ndarray) -> Choice:
    """Describe a threshold; minus infinity is full depth."""
    exits = variant.exits_at(threshold)
    knobs = dict(variant.selected)
    if variant.knob is not None:
        never = isinstance(threshold, float) and threshold == -np.inf
        knobs[variant.knob.name] = (
            to_float(variant.knob.never)
            if never
            else knob_values(variant.rows.signals, threshold, variant.knob, variant.last_asks)
        )
        if variant.knob.dtype == "int64":
            knobs[variant.knob.name] = int(knobs[variant.knob.name])
    layers = variant.layers_at(exits)
    return Choice(
        knobs,
        variant.rows.quality(exits, variant.rows.indices),
        float(variant.rows.costs[exits, np.arange(len(exits))].mean(dtype=np.float64)),
        layers,
        threshold,
        None if variant.layers is not None else _exits(variant, layers, exits),
    )


def _exits(variant: VariantFacts, layers: np.ndarray, exits: np.ndarray) -> Exits:
    found, counts = np.unique(layers, return_counts=True)
    there = variant.found.signals[exits, variant.rows.indices].astype(np.float64)
    there = there[np.isfinite(there)]
    return Exits(
        layers={str(layer): int(count) for layer, count in zip(found, counts, strict=True)},
        signal=(float(there.mean()), float(there.std())) if len(there) else None,
    )


def choose_safe(
    variant: VariantFacts, labelled: bool, risk: float, confidence: float
) -> Choice | None:
    """Find the earliest threshold that is guaranteed, see `guarantee`.

    Some rows only say where the thresholds lie, and the others test them: a test on rows that
    have chosen what is tested would promise too much.

    Args:
        variant: The largest variant, which must have exits.
        labelled: Whether the examples say what is right.
        risk: The largest expected loss.
        confidence: Probability that it is kept.

    Returns:
        None if there are too few examples.

    Raises:
        InputError: The model answers numbers.
    """
    assert variant.knob is not None
    losses = row_losses(variant.found.facts, labelled)[:, variant.rows.indices]
    order = np.random.default_rng(0).permutation(losses.shape[1])
    grid = min(GRID_ROWS, len(order) // 4)
    scouts, testers = order[:grid], order[grid:]
    thresholds = thresholds_to_try(variant.rows.signals.of_rows(scouts), variant.knob)
    index = earliest_safe(
        variant.rows.signals.of_rows(testers), thresholds, losses[:, testers], risk, confidence
    )
    return None if index is None else make_choice(variant, float(thresholds[index]))

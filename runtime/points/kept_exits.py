"""Which exits of a model are worth what they cost, from one pass over examples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.errors import InputError
from effbert.runtime.points.choices import choose_knobs
from effbert.runtime.points.examples import Columns, Examples
from effbert.runtime.points.exit_times import cost_of_an_exit
from effbert.runtime.points.measuring import measure_variants
from effbert.runtime.points.metrics import right_answers
from effbert.runtime.points.placement import Costs, place_exits
from effbert.runtime.points.sweep import thresholds_to_try
from effbert.runtime.points.targets import Target, spread_indices
from effbert.runtime.points.variant_facts import VariantFacts
from effbert.runtime.session import Session

TRIED = 64  # thresholds of the search
TIGHTER = (1.0, 0.5)  # shares of the loss that are searched for; examples seen flatter the choice


@dataclass(frozen=True)
class Kept:
    """Some exits, with the knob values that are best for them.

    Attributes:
        name: How they were found, such as "every 2nd".
        layers: 1-based, the last one ends the model.
        quality: The metric's.
        ms: Expected milliseconds of a text alone.
        mean_layer: Where texts leave on average.
    """

    name: str
    layers: tuple[int, ...]
    quality: float
    ms: float
    mean_layer: float


@dataclass(frozen=True)
class Placement:
    """Exits to keep, and what was compared.

    Attributes:
        layers: Those of the cheapest candidate.
        candidates: All exits, every k-th, and what the search found.
        metric: Name of the quality.
        full: The quality at full depth.
        full_ms: Milliseconds of a text at full depth with all exits.
        exit_ms: Milliseconds that an exit adds to a text that does not leave there.
        examples: How many there were.
    """

    layers: tuple[int, ...]
    candidates: tuple[Kept, ...]
    metric: str
    full: float
    full_ms: float
    exit_ms: float
    examples: int


def choose_exits(
    bundle: str | os.PathLike[str],
    one_exit: str | os.PathLike[str],
    data: str | os.PathLike[str],
    max_loss: float = 0.5,
    engine: str | None = None,
    tell: Callable[[int], None] = lambda rows: None,
) -> Placement:
    """Find the exits with which texts are answered soonest, at a quality.

    All exits answer the examples once. Then sets of exits are compared by what a text would cost
    with them, each at the threshold that `effbert tune` would choose: all exits, every k-th, and
    those that an exact search finds. The cheapest wins.

    Args:
        bundle: The model with all its exits.
        one_exit: The same model with the last exit only: what it saves tells the cost of an exit.
        data: Examples as for `effbert tune`.
        max_loss: Percentage points of quality that may be lost against full depth.
        engine: What runs the segments; None is the first that is installed.
        tell: Told how many examples are done.

    Raises:
        InputError: The exits cannot be chosen one by one, or the data does not fit.
        BundleError, RunError: The bundle cannot be read or run.
    """
    opened, path = open_bundle(bundle), Path(data)
    _require_separate_exits(opened.manifest)
    examples = Examples(path, opened.manifest)
    with Session(opened, engine) as session, Session(one_exit, engine) as shallow:
        [facts], metric = measure_variants(session, path, examples, Columns(), None, tell)
        exit_ms = cost_of_an_exit(session, shallow, facts.found.tokens)
    costs = _parted(facts.rows.costs, exit_ms)
    target = Target("loss", max_loss / 100, f"loss-{max_loss:g}")
    right = right_answers(facts.found.facts, examples.labelled)
    sets = {**dict(_regular(len(costs.layers))), **dict(_searched(facts, costs, right, target))}
    candidates = tuple(_kept(name, facts, kept, costs, target) for name, kept in sets.items())
    best = min(candidates, key=lambda found: (found.ms, len(found.layers)))
    quality, milliseconds = facts.rows.full()
    return Placement(
        layers=best.layers,
        candidates=candidates,
        metric=metric.name,
        full=quality,
        full_ms=milliseconds,
        exit_ms=exit_ms,
        examples=facts.rows.costs.shape[1],
    )


def _require_separate_exits(manifest: Manifest) -> None:
    """Refuse bundles whose exits say something else when others are missing, or that have none."""
    if manifest.states:
        raise InputError(
            f"The exit policy {manifest.policy.name} remembers the exits before, so that leaving "
            "some out changes what the others decide; choose the exits yourself, such as "
            "--exits 4,8,12, or a policy without memory, such as --policy entropy."
        )
    if manifest.variants or len(manifest.segments) < 2:
        raise InputError(
            "Exits can only be chosen of a model in one size with several exits; leave --exits out."
        )
    if manifest.problem == "regression":
        raise InputError("Exits can only be chosen of models whose answers are right or wrong.")


def _parted(costs: np.ndarray, exit_ms: float) -> Costs:
    """Part the measured cost of leaving at every exit into that of layers and that of exits."""
    exits = np.full(costs.shape, exit_ms)
    layers = np.maximum.accumulate(np.maximum(costs - exits.cumsum(axis=0), 0), axis=0)
    return Costs(layers, exits)


def _regular(exits: int) -> Iterator[tuple[str, np.ndarray]]:
    """All exits, and every k-th up to the last, as long as two are left."""
    yield "all exits", np.arange(exits)
    for step in range(2, exits):
        ending = {2: "nd", 3: "rd"}.get(step, "th")
        yield f"every {step}{ending}", np.arange((exits - 1) % step, exits, step)


def _searched(
    facts: VariantFacts, costs: Costs, right: np.ndarray, target: Target
) -> Iterator[tuple[str, np.ndarray]]:
    """Those of the exact search, at the loss allowed and at half of it."""
    assert facts.knob is not None
    every = thresholds_to_try(facts.rows.signals, facts.knob)
    thresholds = every[spread_indices(len(every), TRIED)]
    for share in TIGHTER:
        least = float(right[-1].mean()) - share * target.value
        found = place_exits(facts.rows.signals.raw, thresholds, costs, right, least)
        if found is not None:
            name = "searched" if share == 1 else f"searched, {share:g} of the loss"
            yield name, np.array(found.kept)


def _kept(name: str, facts: VariantFacts, kept: np.ndarray, costs: Costs, target: Target) -> Kept:
    """Choose the best knob values for some exits, as tuning does."""
    some = facts.of_exits(kept, costs.of_kept(kept))
    choice = choose_knobs([some], target)
    assert choice is not None  # full depth loses nothing
    layers = tuple(segment.layer for segment in some.manifest.segments)
    return Kept(name, layers, choice.quality, choice.cost, float(choice.layers.mean()))

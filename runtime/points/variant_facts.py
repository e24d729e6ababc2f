"""Every variant of a bundle on some examples: signals, facts and costs of its exits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from effbert.runtime.bundle.manifest import Knob, Manifest, to_numbers
from effbert.runtime.bundle.variants import knob_combinations, split_variants
from effbert.runtime.errors import InputError
from effbert.runtime.points.examples import Columns, Examples
from effbert.runtime.points.exit_times import exit_costs
from effbert.runtime.points.grading import OF_EXITS
from effbert.runtime.points.metrics import Metric, at_exits, choose_metric
from effbert.runtime.points.one_pass import Pass, cache_folder, one_pass
from effbert.runtime.points.sweep import Signals, exits_taken, turn_signals
from effbert.runtime.points.targets import Rows
from effbert.runtime.session import Session


@dataclass(frozen=True)
class VariantFacts:
    """One variant, the largest first.

    Attributes:
        manifest: Of the variant.
        selected: Knob values that select it.
        knob: The knob that exits are compared with; None if no row leaves early.
        found: Facts of the examples.
        rows: The same, to choose on.
    """

    manifest: Manifest
    selected: Mapping[str, Any]
    knob: Knob | None
    found: Pass
    rows: Rows

    def of_rows(self, chosen: np.ndarray) -> VariantFacts:
        """Take some of the rows to choose on."""
        return replace(self, rows=self.rows.some(chosen))

    def of_exits(self, kept: np.ndarray, costs: np.ndarray) -> VariantFacts:
        """Take some of the exits, as if the bundle had no others.

        Args:
            kept: int64 [kept], in order, the last exit at the end.
            costs: float64 [kept, rows], milliseconds of a row that leaves at one of them.
        """
        assert self.knob is not None
        every, quality = self.manifest.segments, self.rows.quality
        facts = {
            name: value[kept] if name in OF_EXITS else value
            for name, value in self.found.facts.items()
        }
        found = replace(self.found, facts=facts, signals=self.found.signals[kept])
        rows = replace(
            self.rows,
            signals=turn_signals(found.signals, self.knob),
            costs=costs,
            quality=lambda exits, rows: quality(kept[exits], rows),
        )
        manifest = msgspec.structs.replace(self.manifest, segments=[every[each] for each in kept])
        return replace(self, manifest=manifest, found=found, rows=rows)

    def exits_at(self, threshold: float | np.ndarray) -> np.ndarray:
        """Tell where the rows leave, int64 [rows]."""
        return exits_taken(self.rows.signals, threshold)


def exit_knob(manifest: Manifest) -> Knob | None:
    """Find the knob that exits are compared with; None if no row leaves early.

    Raises:
        InputError: Exits are compared in a way that no sweep foresees.
    """
    if any(item.name == "exit_layer" for item in manifest.segments[0].outputs):
        raise InputError(
            "Words of this bundle exit one by one, which no sweep foresees; choose its knobs with "
            "effbert run and your own measure."
        )
    knobs = [knob for knob in manifest.knobs if knob.choices is None and knob.count is None]
    knobs.sort(key=lambda knob: knob.name != "threshold")
    return knobs[0] if len(manifest.segments) > 1 and knobs else None


def measure_variants(
    session: Session,
    data: Path,
    examples: Examples,
    columns: Columns,
    metric: str | None,
    tell: Callable[[int], None],
) -> tuple[list[VariantFacts], Metric]:
    """Make the pass over every variant, and time its exits.

    Args:
        session: Of the bundle.
        data: The file of the examples.
        examples: Its content.
        columns: As they were asked for.
        metric: Name of the quality, None for the usual one.
        tell: Told how many examples are done.

    Raises:
        InputError: There is nothing to choose, or the metric does not fit.
        RunError: The engine failed, or pieces of the pass cannot be kept.
    """
    manifest = session.bundle.manifest
    if exit_knob(manifest) is None and not manifest.variants:
        raise InputError(
            "Nothing of this bundle exits early and it has one size, so there is nothing to tune; "
            "lengths are searched with: effbert search BUNDLE --data FILE."
        )
    sizes: list[VariantFacts] = []
    for variant, selected in zip(
        split_variants(manifest), knob_combinations(manifest), strict=True
    ):
        values = {name: to_numbers(value) for name, value in selected.items()}
        largest = sizes[0] if sizes else None
        found, chosen = measure_variant(
            session, data, examples, columns, metric, tell, variant, values, largest
        )
        sizes.append(found)
    return sizes, chosen


def measure_variant(
    session: Session,
    data: Path,
    examples: Examples,
    columns: Columns,
    metric: str | None,
    tell: Callable[[int], None],
    variant: Manifest,
    selected: Mapping[str, Any],
    largest: VariantFacts | None = None,
) -> tuple[VariantFacts, Metric]:
    """As `measure_variants`, for one of them.

    Args:
        session: Of the bundle.
        data: The file of the examples.
        examples: Its content.
        columns: As they were asked for.
        metric: Name of the quality, None for the usual one.
        tell: Told how many examples are done.
        variant: Manifest of the variant.
        selected: Knob values that select it.
        largest: The largest variant; None if this is it.
    """
    manifest = session.bundle.manifest
    knob = exit_knob(manifest)
    fixed = {each.name: to_numbers(each.default) for each in manifest.knobs if each is not knob}
    knobs = fixed | dict(selected)
    folder = cache_folder(session, data, knobs, (columns.text, columns.pair, columns.label))
    found = one_pass(session, examples, knobs, folder, tell)
    chosen = choose_metric(metric, found.facts, examples.labelled)
    costs = exit_costs(session, variant, knobs, knob, found.tokens)
    rows = Rows(
        turn_signals(found.signals, knob) if knob else _no_signals(*costs.shape),
        costs,
        quality_of(found, chosen),
        np.arange(costs.shape[1]),
        largest.rows if largest else None,
    )
    return VariantFacts(variant, selected, knob, found, rows), chosen


def _no_signals(exits: int, rows: int) -> Signals:
    stays = np.full((exits - 1, rows), np.inf)
    return Signals(stays, stays, sign=1, whole=False)


def quality_of(found: Pass, metric: Metric) -> Callable[[np.ndarray, np.ndarray], float]:
    """Make the function from exits taken and indices of rows to the quality."""
    needed = {name: found.facts[name] for name in {metric.needs, "truth"} & found.facts.keys()}

    def quality(exits: np.ndarray, rows: np.ndarray) -> float:
        every = len(rows) == len(found.tokens)  # taking all rows would copy them
        facts = (
            needed
            if every
            else {
                name: value[:, rows] if name in OF_EXITS else value[rows]
                for name, value in needed.items()
            }
        )
        return metric.of(at_exits(facts, exits))

    return quality

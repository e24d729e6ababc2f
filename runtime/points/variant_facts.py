"""Sizes and lengths of a bundle on some examples: signals, facts and costs of their exits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from effbert.runtime.bundle.manifest import Knob, Manifest
from effbert.runtime.points.grading import OF_EXITS
from effbert.runtime.points.one_pass import Pass
from effbert.runtime.points.sweep import exits_taken, turn_signals
from effbert.runtime.points.targets import Rows


@dataclass(frozen=True)
class VariantFacts:
    """One size of the model at one length configuration; the full model comes first.

    Attributes:
        manifest: Of the variant.
        selected: Knob values that select it, lengths among them.
        knob: The knob that exits are compared with; None if no row leaves early.
        found: Facts of the examples.
        rows: The same, to choose on.
        layers: float32 [exits, rows], the mean encoder layer where a row's answer comes from;
            None if these are the layers of the exits.
        last_asks: Whether the last exit would answer otherwise at a threshold, and so gets none.
    """

    manifest: Manifest
    selected: Mapping[str, Any]
    knob: Knob | None
    found: Pass
    rows: Rows
    layers: np.ndarray | None = None
    last_asks: bool = False

    def of_rows(self, chosen: np.ndarray) -> VariantFacts:
        """Take some of the rows to choose on."""
        layers = None if self.layers is None else self.layers[:, chosen]
        return replace(self, rows=self.rows.some(chosen), layers=layers)

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

    def layers_at(self, exits: np.ndarray) -> np.ndarray:
        """Tell the encoder layers of the exits that the rows take."""
        if self.layers is not None:
            return np.asarray(self.layers[exits, np.arange(len(exits))])
        layers = np.array([segment.layer for segment in self.manifest.segments])
        return np.asarray(layers[exits])


def exit_knob(manifest: Manifest) -> Knob | None:
    """Find the knob that exits are compared with; None if no row leaves early."""
    knobs = [knob for knob in manifest.knobs if knob.choices is None and knob.count is None]
    knobs.sort(key=lambda knob: knob.name != "threshold")
    return knobs[0] if len(manifest.segments) > 1 and knobs else None


def lengths_knob(manifest: Manifest) -> Knob | None:
    """Find the knob that says how many tokens leave each layer."""
    return next((knob for knob in manifest.knobs if knob.count is not None), None)

"""What the graph passes did to a model, as a report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from effbert.exporter.precision.lowering import Lowered
from effbert.exporter.segments import BuiltModel


class SegmentPasses(NamedTuple):
    """One segment.

    Attributes:
        changes: Stage -> how much it changed.
        attentions: How many attentions the segment computes, fused or not.
        lowered: How many products, or with 16 bits weights, have a lower precision.
    """

    changes: Mapping[str, int]
    attentions: int
    lowered: int

    @property
    def fused(self) -> int:
        """How many attentions became one operator."""
        return self.changes["attention fused"]


class PassReport(NamedTuple):
    """One model: changes to the graph before it was cut, and to every segment."""

    graph: Mapping[str, int]
    segments: tuple[SegmentPasses, ...]

    @property
    def fused(self) -> int:
        """How many attentions became one operator, in all segments."""
        return sum(segment.fused for segment in self.segments)

    @property
    def attentions(self) -> int:
        """How many attentions there are, in all segments."""
        return sum(segment.attentions for segment in self.segments)


def report_passes(built: BuiltModel, lowered: Lowered) -> PassReport:
    """Collect what was done to a model and its segments."""
    products = lowered.products or [0] * len(built.segments)
    return PassReport(
        built.changes,
        tuple(
            SegmentPasses(segment.changes, segment.attentions, count)
            for segment, count in zip(built.segments, products, strict=True)
        ),
    )

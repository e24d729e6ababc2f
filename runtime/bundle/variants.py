"""The variants of a bundle: its model in other sizes, with segments of their own.

Knobs with `choices` select a variant. Each variant, taken for itself, is an ordinary bundle.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from effbert.runtime.bundle.manifest import Knob, Manifest, Number


def selectors(manifest: Manifest) -> list[Knob]:
    """Return the knobs that select a variant."""
    return [knob for knob in manifest.knobs if knob.choices is not None]


def split_variants(manifest: Manifest) -> Iterator[Manifest]:
    """Give every variant as a manifest without selectors, the default variant first."""
    common = [knob for knob in manifest.knobs if knob.choices is None]
    alone = msgspec.structs.replace(manifest, knobs=common, variants=[], operating_points=[])
    yield alone
    for variant in manifest.variants:
        yield msgspec.structs.replace(alone, segments=variant.segments, golden=variant.golden)


def knob_combinations(manifest: Manifest) -> Iterator[dict[str, Number]]:
    """Give the selectors' values of every variant, the default variant first."""
    # The default of a selector is one number, never a list; `variant_rules` holds it to that.
    yield {knob.name: knob.default for knob in selectors(manifest)}  # type: ignore[misc]
    for variant in manifest.variants:
        yield variant.knobs


def spell(combination: dict[str, Number]) -> str:
    """Write a combination for people: "width 0.5, depth 1"."""
    return ", ".join(f"{name} {value}" for name, value in combination.items())

"""What must hold between the variants of a manifest and the knobs that select them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from effbert.runtime.bundle.manifest import Knob, Manifest, Segment
from effbert.runtime.bundle.variants import knob_combinations, selectors, spell


def find_variant_problems(manifest: Manifest) -> Iterator[str]:
    """Yield every contradiction, in sentences that start with the JSON path they are about."""
    for k, knob in enumerate(manifest.knobs):
        if knob.choices is not None:
            for problem in _choice_problems(knob):
                yield f"$.knobs[{k}].{problem}"
    if not any(isinstance(knob.default, list) for knob in selectors(manifest)):
        yield from _combination_problems(manifest)
        yield from _point_problems(manifest)
    expected = _answers(manifest, manifest.segments)
    for k, variant in enumerate(manifest.variants):
        path = f"$.variants[{k}].segments"
        if len(variant.segments) != len(manifest.segments):
            yield f"{path}: {len(variant.segments)} exits, but $.segments has {len(expected)}"
        elif _answers(manifest, variant.segments) != expected:
            yield f"{path}: the answers have other types or axes than those of $.segments"


def _choice_problems(knob: Knob) -> Iterator[str]:
    choices = [float(choice) for choice in knob.choices or []]
    if not choices or choices != sorted(set(choices)):
        yield "choices: expected numbers that rise"
        return
    if (float(knob.minimum), float(knob.maximum)) != (choices[0], choices[-1]):
        yield "choices: minimum and maximum are not the first and the last of them"
    if isinstance(knob.default, list) or float(knob.default) != choices[-1]:
        yield "default: $.segments is the largest variant, so this must be the largest choice"
    if float(knob.never) != choices[-1]:
        yield "never: expected the largest choice"
    if knob.per_exit or knob.count is not None or knob.unit is not None:
        yield "choices: a variant is selected by one number, not by one an exit or layer"


def _combination_problems(manifest: Manifest) -> Iterator[str]:
    knobs = {knob.name: knob for knob in selectors(manifest)}
    found = list(knob_combinations(manifest))
    for k, combination in enumerate(found[1:]):
        path = f"$.variants[{k}].knobs"
        if set(combination) != set(knobs):
            yield f"{path}: expected a value for each knob with choices, {sorted(knobs)}"
        elif combination in found[: k + 1]:
            yield f"{path}: {spell(combination) or 'no knobs'} selects an earlier variant"
    for name, knob in knobs.items():
        values = {combination.get(name) for combination in found}
        if values != set(knob.choices or []):
            yield f"$.knobs: the choices of {name!r} are not the values that the variants have"


def _point_problems(manifest: Manifest) -> Iterator[str]:
    found = list(knob_combinations(manifest))
    for k, point in enumerate(manifest.operating_points):
        chosen = {name: point.knobs.get(name, value) for name, value in found[0].items()}
        if chosen not in found:
            yield f"$.operating_points[{k}].knobs: there is no such variant"


def _answers(manifest: Manifest, segments: list[Segment]) -> list[dict[str, Any]]:
    """Of each exit what answers it gives, with dtype and axes."""
    names = (*manifest.outputs, "exit_layer")
    return [
        {item.name: (item.dtype, item.axes) for item in segment.outputs if item.name in names}
        for segment in segments
    ]

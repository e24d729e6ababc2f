"""Knob values of one call: defaults, then the operating point, then what the call says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effbert.runtime.bundle.knob_values import allowed_values, knob_value, layer_values
from effbert.runtime.bundle.manifest import Manifest, to_numbers
from effbert.runtime.engines.protocol import Values
from effbert.runtime.errors import InputError

PLAIN = frozenset({int, float})
RECENT = 64  # sets of values that are kept ready
KnobValue = float | int | Sequence[float | int]


class Knobs:
    """Turns knob values into what each segment is fed, as arrays of rank 0."""

    def __init__(self, manifest: Manifest, operating_point: str | None = None) -> None:
        self._manifest = manifest
        self._knobs = {knob.name: knob for knob in manifest.knobs}
        self._segments = len(manifest.segments)
        self._usual = operating_point
        self._bases: dict[str | None, Values] = {}
        self._base(operating_point)
        self._recent: dict[tuple[Any, ...], Values] = {}
        self._never = self._arrays({knob.name: to_numbers(knob.never) for knob in manifest.knobs})

    def merged(
        self, values: Mapping[str, KnobValue] | None, operating_point: str | None = None
    ) -> Values:
        """Return the values of one call.

        Args:
            values: Knob name to a number, or for a knob with one value an exit to a list of them.
            operating_point: What they go over; None is what was given to begin with.

        Returns:
            For each segment the value of every knob as an array of rank 0.

        Raises:
            InputError: A name is unknown, or a value has the wrong type, range or length.
        """
        base = self._base(self._usual if operating_point is None else operating_point)
        if not values:
            return base
        key = _signature(values)
        if key is None:
            return self._over(base, values)
        key = (operating_point, *key)
        merged = self._recent.get(key)
        if merged is None:
            if len(self._recent) >= RECENT:
                self._recent.clear()
            merged = self._recent[key] = self._over(base, values)
        return merged

    def over_never(self, values: Mapping[str, KnobValue] | None) -> Values:
        """As `merged`, over the values at which no row exits early."""
        return self._over(self._never, values)

    def _base(self, operating_point: str | None) -> Values:
        base = self._bases.get(operating_point)
        if base is None:
            knobs = self._manifest.knobs
            merged: dict[str, Any] = {knob.name: to_numbers(knob.default) for knob in knobs}
            if operating_point is not None:
                merged |= _point(self._manifest, operating_point)
            base = self._bases[operating_point] = self._arrays(merged)
        return base

    def _over(self, base: Values, values: Mapping[str, KnobValue] | None) -> Values:
        if not values:
            return base
        if not isinstance(values, Mapping):
            raise InputError(f"Knobs: got {type(values).__name__}, expected a dict of name: value.")
        changed = self._arrays(values)
        return Values(old | new for old, new in zip(base, changed, strict=True))

    def _arrays(self, values: Mapping[str, Any]) -> Values:
        columns = {name: self._column(name, value) for name, value in values.items()}
        return Values(
            {name: column[index] for name, column in columns.items()}
            for index in range(self._segments)
        )

    def _column(self, name: str, value: Any) -> list[np.ndarray]:
        knob = self._knobs.get(name)
        if knob is None:
            known = ", ".join(self._knobs) or "none"
            raise InputError(f"Unknown knob {name!r}; this bundle has: {known}.")
        several = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim)
        if knob.count is not None:
            return [
                layer_values(knob, [*value] if several else [value] * knob.count)
            ] * self._segments
        if several:
            if not knob.per_exit:
                raise InputError(f"Knob {name!r}: got a list, expected {allowed_values(knob)}.")
            if len(value) != self._segments:
                raise InputError(
                    f"Knob {name!r}: got {len(value)} values, expected one value or "
                    f"{self._segments}, one an exit."
                )
            return [knob_value(knob, item) for item in value]
        return [knob_value(knob, value)] * self._segments


def _signature(values: Any) -> tuple[Any, ...] | None:
    """Make a key of knob values, types included; None for values other than plain numbers."""
    if type(values) is not dict:
        return None
    parts: list[Any] = []
    for name, value in values.items():
        items = value if type(value) in (list, tuple) else (value,)
        kinds = (*map(type, items),)
        if not PLAIN.issuperset(kinds):
            return None
        parts += (name, type(value), kinds, *items)
    return tuple(parts)


def _point(manifest: Manifest, name: str) -> dict[str, Any]:
    for point in manifest.operating_points:
        if point.name == name:
            return {knob: to_numbers(value) for knob, value in point.knobs.items()}
    known = ", ".join(repr(point.name) for point in manifest.operating_points) or "none"
    raise InputError(f"Unknown operating point {name!r}; this bundle has: {known}.")

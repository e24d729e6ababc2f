"""Knob values of one call: defaults, then the operating point, then what the call says."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np

from effbert.runtime.errors import InputError
from effbert.runtime.manifest import Knob, Manifest, numbers

PLAIN = frozenset({int, float})
RECENT = 64  # sets of values that are kept ready
KnobValue = float | int | Sequence[float | int]


class Values(list[dict[str, np.ndarray]]):
    """What graphs are fed for knobs: segment -> knob name -> array.

    Attributes:
        stacked: Knob name -> the same for all segments, [segments, ...].
    """

    @cached_property
    def stacked(self) -> dict[str, np.ndarray]:
        """Stacks the arrays, once."""
        names = self[0] if self else {}
        return {name: np.stack([values[name] for values in self]) for name in names}


class Knobs:
    """Turns knob values into what each segment is fed, as arrays of rank 0."""

    def __init__(self, manifest: Manifest, operating_point: str | None = None) -> None:
        self._knobs = {knob.name: knob for knob in manifest.knobs}
        self._segments = len(manifest.segments)
        merged: dict[str, Any] = {knob.name: numbers(knob.default) for knob in manifest.knobs}
        if operating_point is not None:
            merged |= _point(manifest, operating_point)
        self._defaults = self._arrays(merged)
        self._recent: dict[tuple[Any, ...], Values] = {}
        self._never = self._arrays({knob.name: numbers(knob.never) for knob in manifest.knobs})

    def merged(self, values: Mapping[str, KnobValue] | None) -> Values:
        """The values of one call.

        Args:
            values: Knob name to a number, or for a knob with one value an exit to a list of them.

        Returns:
            For each segment the value of every knob as an array of rank 0.

        Raises:
            InputError: A name is unknown, or a value has the wrong type, range or length.
        """
        if not values:
            return self._defaults
        key = _signature(values)
        if key is None:
            return self._over(self._defaults, values)
        merged = self._recent.get(key)
        if merged is None:
            if len(self._recent) >= RECENT:
                self._recent.clear()
            merged = self._recent[key] = self._over(self._defaults, values)
        return merged

    def over_never(self, values: Mapping[str, KnobValue] | None) -> Values:
        """As `merged`, over the values at which no row exits early."""
        return self._over(self._never, values)

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
                raise InputError(f"Knob {name!r}: got a list, expected {_allowed(knob)}.")
            if len(value) != self._segments:
                raise InputError(
                    f"Knob {name!r}: got {len(value)} values, expected one value or "
                    f"{self._segments}, one an exit."
                )
            return [_scalar(knob, item) for item in value]
        return [_scalar(knob, value)] * self._segments


def _signature(values: Any) -> tuple[Any, ...] | None:
    """What tells knob values apart, types included; None for values other than plain numbers."""
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
            return {knob: numbers(value) for knob, value in point.knobs.items()}
    known = ", ".join(repr(point.name) for point in manifest.operating_points) or "none"
    raise InputError(f"Unknown operating point {name!r}; this bundle has: {known}.")


def layer_values(knob: Knob, values: Sequence[Any]) -> np.ndarray:
    """What a graph is fed for a knob with a value for each encoder layer.

    Args:
        knob: One with a `count`.
        values: As many; counts of tokens become the count plus a half.

    Returns:
        An array [layers] of the knob's dtype.

    Raises:
        InputError: There are more or fewer, one is out of range, or lengths grow.
    """
    if len(values) != knob.count:
        raise InputError(
            f"Knob {knob.name!r}: got {len(values)} values, expected one or {knob.count}, one "
            "an encoder layer."
        )
    if knob.unit != "tokens":
        return np.array([_scalar(knob, value) for value in values])
    counts = [isinstance(value, Integral) and not isinstance(value, bool) for value in values]
    if any(counts) and not all(counts):
        raise InputError(
            f"Knob {knob.name!r}: got counts and shares in one list, expected integers only or "
            "shares only."
        )
    for value, count in zip(values, counts, strict=True):
        most = float(knob.maximum) if count else 1.0
        if not isinstance(value, Real) or not 0 < float(value) <= most:
            raise InputError(
                f"Knob {knob.name!r}: got {value!r:.40}, expected a count of tokens (an integer "
                f"from 1 to {knob.maximum}) or a share above 0 and up to 1.0, which drops none."
            )
    for layer, (before, after) in enumerate(itertools.pairwise(values), start=2):
        if after > before:
            raise InputError(
                f"Knob {knob.name!r}: got {after} for layer {layer} after {before}, but dropped "
                "tokens do not come back; lengths must not grow."
            )
    return np.array(
        [value + 0.5 * count for value, count in zip(values, counts, strict=True)], dtype=knob.dtype
    )


def _scalar(knob: Knob, value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        value = value.item() if value.ndim == 0 else value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise _refused(knob, value)
    try:
        number = float(value)
        # NaN fails the comparison too.
        if not float(knob.minimum) <= number <= float(knob.maximum):
            raise _refused(knob, value)
        if knob.dtype == "int64" and not (isinstance(value, Integral) or number.is_integer()):
            raise _refused(knob, value)
        if knob.choices is not None and np.array(value, knob.dtype) not in np.array(
            knob.choices, knob.dtype
        ):
            raise _refused(knob, value)
        with np.errstate(over="raise"):
            return np.array(value, dtype=knob.dtype)
    except (OverflowError, FloatingPointError) as error:
        raise _refused(knob, value) from error


def _refused(knob: Knob, value: Any) -> InputError:
    return InputError(f"Knob {knob.name!r}: got {value!r:.40}, expected {_allowed(knob)}.")


def _allowed(knob: Knob) -> str:
    if knob.choices is not None:
        return f"one of {', '.join(map(str, knob.choices))}"
    kind = "an integer" if knob.dtype == "int64" else "a number"
    return f"{kind} from {knob.minimum} to {knob.maximum} ({knob.never} never exits early)"

"""What a graph is fed for one knob: numbers of the right type, within its range."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from effbert.runtime.bundle.manifest import Knob
from effbert.runtime.errors import InputError


def layer_values(knob: Knob, values: Sequence[Any]) -> np.ndarray:
    """Return what a graph is fed for a knob with a value for each encoder layer.

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
        return np.array([knob_value(knob, value) for value in values])
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


def knob_value(knob: Knob, value: Any) -> np.ndarray:
    """Turn one number into an array of rank 0 of the knob's dtype.

    Raises:
        InputError: It is no number, or out of range.
    """
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
    return InputError(f"Knob {knob.name!r}: got {value!r:.40}, expected {allowed_values(knob)}.")


def allowed_values(knob: Knob) -> str:
    """Say which values a knob takes, for messages."""
    if knob.choices is not None:
        return f"one of {', '.join(map(str, knob.choices))}"
    kind = "an integer" if knob.dtype == "int64" else "a number"
    return f"{kind} from {knob.minimum} to {knob.maximum} ({knob.never} never exits early)"

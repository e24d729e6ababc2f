"""Choose the exit policy of an export and set its default knobs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import msgspec
import numpy as np

from effbert.exporter.models.exit_model import Description
from effbert.exporter.policies import POLICIES
from effbert.exporter.policies.policy import Policy
from effbert.runtime.bundle.knob_values import layer_values
from effbert.runtime.bundle.manifest import Knob, Number, to_float
from effbert.runtime.errors import ExportError, InputError

LARGEST = float(np.finfo(np.float32).max)


def choose_policy(name: str, description: Description) -> Policy:
    """Take the checkpoint's own policy, or check that the named one understands its exits.

    Raises:
        ExportError: There is no such policy, or it cannot judge this checkpoint's outputs.
    """
    name = description.policy if name == "auto" else name
    problem = description.problem or description.task
    layers = description.layers
    if name == "patience" and problem == "regression":
        name = "patience-regression"
    if name not in POLICIES:
        raise ExportError(
            f"There is no policy {name}; choose auto or one of {', '.join(POLICIES)}."
        )
    policy = POLICIES[name]
    if problem not in policy.problems:
        raise ExportError(
            f"Policy {name} cannot judge {problem} outputs, it needs {', '.join(policy.problems)}; "
            f"choose another, such as {description.policy}."
        )
    missing = [policy.needs[name] for name in sorted(set(policy.needs) - set(description.extras))]
    if missing:
        raise ExportError(
            f"Policy {name} needs exits with {' and '.join(missing)}, "
            f"which this {description.format} checkpoint does not have; choose another policy, "
            f"such as {description.policy}."
        )
    if policy.knobs and len(layers) == 1 and description.policy == "none":
        raise ExportError(
            f"Policy {name} has nothing to decide: this checkpoint has one exit, after layer "
            f"{layers[0]}; leave --policy out."
        )
    return policy.fitted(len(description.labels), tuple(knob.name for knob in description.knobs))


def why_nothing_exits(description: Description, policy: Policy) -> list[str]:
    """Say why a checkpoint with exits will not use them; nothing where it will."""
    silent = policy.name == "none" and len(description.layers) > 1
    if not silent or description.problem != "regression":
        return []
    note = (
        "A single value has no entropy or confidence, so no row exits early; --policy patience "
        "stops where the values of successive exits settle."
    )
    return [note]


def knob_values(
    policy: Policy, description: Description, values: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Merge the knob values that a checkpoint brings, where the policy has them, and the user's.

    Raises:
        InputError: There is no such knob.
    """
    known = {knob.name for knob in (*policy.knobs, *description.knobs)}
    for name in values:
        if name not in known:
            names = [knob.name for knob in (*policy.knobs, *description.knobs)]
            raise InputError(
                f"Policy {policy.name} has no knob {name}; it has {', '.join(names) or 'none'}."
            )
    return {n: value for n, value in description.defaults.items() if n in known} | dict(values)


def with_defaults(knobs: Sequence[Knob], values: Mapping[str, Any], exits: int) -> tuple[Knob, ...]:
    """Give knobs these default values, by name; the others keep their own.

    Raises:
        InputError: A value is out of its range, or there are not as many as exits.
    """
    return tuple(
        _with_default(knob, values[knob.name], exits) if knob.name in values else knob
        for knob in knobs
    )


def _with_default(knob: Knob, value: Any, exits: int) -> Knob:
    several = isinstance(value, list | tuple)
    if knob.count is not None:
        layer_values(knob, [*value] if several else [value] * knob.count)
    elif several:
        wanted = exits if knob.per_exit else 1
        if wanted == 1 or len(value) != wanted:
            expected = f"one value or {wanted}, one an exit" if wanted > 1 else "one value"
            raise InputError(f"Knob {knob.name}: got {len(value)} values, expected {expected}.")
    numbers = [_number(knob, item) for item in value] if several else _number(knob, value)
    return msgspec.structs.replace(knob, default=numbers)


def _number(knob: Knob, value: Any) -> Number:
    low, high = to_float(knob.minimum), to_float(knob.maximum)
    counts = knob.unit == "tokens" and isinstance(value, Integral)
    kind = int if knob.dtype == "int64" or counts else float
    try:
        fits = low <= value <= high and kind(value) == value
        fits = fits and (abs(value) <= LARGEST or math.isinf(value))
    except (OverflowError, TypeError):  # an integer of hundreds of digits, or no number at all
        fits = False
    if not fits:
        expected = "an integer" if kind is int else "a number"
        raise InputError(
            f"Knob {knob.name}: got {value!r:.40}, expected {expected} from {low} to {high}."
        )
    found: Number = kind(value)
    if found == float("inf"):
        return "inf"
    return "-inf" if found == float("-inf") else found

"""Choose the exit policy of an export and set its default knobs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np

from effbert.exporter.model import Description
from effbert.exporter.policies import POLICIES, Policy
from effbert.runtime.errors import ExportError, InputError
from effbert.runtime.manifest import Knob, number

LARGEST = float(np.finfo(np.float32).max)


def choose_policy(name: str, description: Description) -> Policy:
    """Take the checkpoint's own policy, or check that the named one understands its exits.

    Raises:
        ExportError: there is no such policy, or it cannot judge this checkpoint's outputs.
    """
    name = description.policy if name == "auto" else name
    problem = description.problem or description.task
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
    if policy.knobs and len(description.layers) == 1 and description.policy == "none":
        raise ExportError(
            f"Policy {name} has nothing to decide: this checkpoint has one exit, after layer "
            f"{description.layers[0]}; leave --policy out."
        )
    return policy


def with_defaults(policy: Policy, values: Mapping[str, float | int]) -> Policy:
    """Set default values of knobs.

    Raises:
        InputError: the policy has no such knob, or the value is out of its range.
    """
    known = {knob.name: knob for knob in policy.knobs}
    for name in values:
        if name not in known:
            raise InputError(
                f"Policy {policy.name} has no knob {name}; it has {', '.join(known) or 'none'}."
            )
    knobs = tuple(
        _with_default(knob, values[knob.name]) if knob.name in values else knob
        for knob in policy.knobs
    )
    return replace(policy, knobs=knobs)


def _with_default(knob: Knob, value: float | int) -> Knob:
    low, high = number(knob.minimum), number(knob.maximum)
    kind = int if knob.dtype == "int64" else float
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
    number_or_name = kind(value)
    if number_or_name in (float("inf"), float("-inf")):
        number_or_name = str(number_or_name)  # type: ignore[assignment]
    return msgspec.structs.replace(knob, default=number_or_name)

"""Which profile of a plan serves a call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from effbert.runtime.bundle.names import MASK
from effbert.runtime.engines.plans.executable import Profile, Shape, Signature
from effbert.runtime.engines.protocol import UNLIMITED, ShapeLimits
from effbert.runtime.errors import InputError


def choose_profile(name: str, profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> int:
    """Return the index of the profile that fits most tightly.

    Kernels are chosen for a profile's usual shapes and serve its largest ones, so the one whose
    largest inputs are smallest wastes least; of equal ones the one whose usual ones are nearest.

    Args:
        name: File name of the segment, for messages.
        profiles: Of its plan.
        shapes: Of this call.

    Raises:
        InputError: No profile holds these shapes.
    """
    fitting = [k for k, profile in enumerate(profiles) if _holds(profile, shapes)]
    if not fitting:
        raise InputError(_refused(name, profiles, shapes))
    if len(fitting) == 1:
        return fitting[0]

    def waste(index: int) -> tuple[int, int]:
        profile = profiles[index]
        largest = sum(math.prod(sizes.most) for sizes in profile.values())
        return largest, sum(
            abs(math.prod(sizes.usual) - math.prod(shapes[name]))
            for name, sizes in profile.items()
            if name in shapes
        )

    return min(fitting, key=waste)


def shape_limits(signatures: Sequence[Signature]) -> ShapeLimits:
    """Return the calls that every segment's profiles hold, from their masks.

    Args:
        signatures: Of the plans of all segments.
    """
    signatures = [item for item in signatures if all(MASK in p for p in item.profiles)]
    lengths = sorted({profile[MASK].most[1] for item in signatures for profile in item.profiles})
    steps = []
    for length in lengths:
        rows = min(_rows_at(item, length) for item in signatures)
        if rows:
            steps.append((length, rows))
    if not steps:
        return UNLIMITED
    length, rows = steps[-1]
    return ShapeLimits(rows, length, tuple(steps))


def _rows_at(signature: Signature, length: int) -> int:
    return max(
        (p[MASK].most[0] for p in signature.profiles if p[MASK].most[1] >= length), default=0
    )


def _holds(profile: Profile, shapes: Mapping[str, Shape]) -> bool:
    for name, sizes in profile.items():
        shape = shapes.get(name)
        if shape is not None and not all(
            least <= extent <= most
            for least, extent, most in zip(sizes.least, shape, sizes.most, strict=True)
        ):
            return False
    return True


def _refused(name: str, profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> str:
    """Say which input of a call is outside, in one sentence."""
    last = profiles[-1]
    outside = next((k for k in last if k in shapes and not _holds({k: last[k]}, shapes)), MASK)
    ranges = "; ".join(
        f"{_spelled(profile[outside].least)} to {_spelled(profile[outside].most)}"
        for profile in profiles
        if outside in profile
    )
    return (
        f"{name} was compiled for {outside} of {ranges}, this call has "
        f"{_spelled(shapes.get(outside, ()))}; compile with a --profile that holds it."
    )


def _spelled(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "one value"

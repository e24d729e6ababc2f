"""Profiles: the batches and lengths that plans are made for, and what each segment sees of them.

Kernels are chosen for the usual shape of a profile, and work from its least to its largest. Later
segments see fewer rows, because rows leave, and, where tokens are dropped, shorter ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from effbert.runtime.bundle.manifest import Manifest, to_numbers
from effbert.runtime.compile.ports import Ports
from effbert.runtime.errors import InputError

SHAPE = re.compile(r"(\d{1,6})x(\d{1,6})")
EXAMPLE = "1x8,8x64,32x128"
LARGEST = 65_536
ROWS = (1, 8, 32)  # least, usual and largest where nothing is asked for
USUAL_LENGTH = 64
Sizes = tuple[int, int, int]


class Shape(NamedTuple):
    """A batch and its length."""

    rows: int
    length: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.length}"

    @property
    def tokens(self) -> int:
        """Tokens of all rows together, padding included."""
        return self.rows * self.length


class Profile(NamedTuple):
    """The least, the usual and the largest batch that a plan is made for."""

    least: Shape
    usual: Shape
    most: Shape

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @property
    def rows(self) -> Sizes:
        """Rows of the three."""
        return self.least.rows, self.usual.rows, self.most.rows

    @property
    def lengths(self) -> Sizes:
        """Lengths of the three."""
        return self.least.length, self.usual.length, self.most.length

    def holds(self, shape: Shape) -> bool:
        """Tell whether a batch fits."""
        return (
            self.least.rows <= shape.rows <= self.most.rows
            and self.least.length <= shape.length <= self.most.length
        )


def read_profile(text: str) -> Profile:
    """Read "ROWSxLENGTH,ROWSxLENGTH,ROWSxLENGTH": the least, the usual and the largest batch.

    Raises:
        InputError: It is no such thing, or the three are not in order.
    """
    found = [SHAPE.fullmatch(part.strip()) for part in text.split(",")]
    if len(found) != 3 or not all(found):
        raise InputError(
            f"Profile {text!r:.60} is not three batches as ROWSxLENGTH, the least, the usual and "
            f"the largest, such as {EXAMPLE}."
        )
    profile = Profile(*(Shape(int(match[1]), int(match[2])) for match in found if match))
    for what, sizes in (("rows", profile.rows), ("lengths", profile.lengths)):
        if not 1 <= sizes[0] <= sizes[1] <= sizes[2] <= LARGEST:
            raise InputError(
                f"Profile {profile}: its {what} are {', '.join(map(str, sizes))}, expected numbers "
                f"from 1 to {LARGEST} that do not fall."
            )
    return profile


def usual_profile(manifest: Manifest) -> Profile:
    """Return the profile of a bundle if nothing is asked for."""
    least, most = manifest.limits.min_length, manifest.limits.max_length
    usual = max(least, min(USUAL_LENGTH, most))
    return Profile(*(Shape(*pair) for pair in zip(ROWS, (least, usual, most), strict=True)))


def check_profiles(profiles: Sequence[Profile], manifest: Manifest) -> None:
    """Refuse lengths that the model does not read.

    Raises:
        InputError: Says which profile.
    """
    limits = manifest.limits
    for profile in profiles:
        shortest, _, longest = profile.lengths
        if longest > limits.max_length or shortest < limits.min_length:
            raise InputError(
                f"Profile {profile}: the model reads rows of {limits.min_length} to "
                f"{limits.max_length} tokens; give lengths in that range."
            )


def segment_sizes(
    ports: Ports, profiles: Sequence[Profile], manifest: Manifest, index: int, leaving: float
) -> list[dict[str, Sizes]]:
    """Say what a segment's axes and extents are under each profile.

    Args:
        ports: What the prepared segment reads.
        profiles: Of the whole bundle.
        manifest: Of the bundle.
        index: Of the segment in its chain.
        leaving: Share of the rows that usually leave at each exit.

    Returns:
        For each profile: name of a dynamic axis or an extent -> least, usual and largest.
    """
    return [_sizes(ports, profile, profiles, manifest, index, leaving) for profile in profiles]


def _sizes(
    ports: Ports,
    profile: Profile,
    profiles: Sequence[Profile],
    manifest: Manifest,
    index: int,
    leaving: float,
) -> dict[str, Sizes]:
    first = index == 0
    limits = manifest.limits
    usual_rows = max(1, round(profile.usual.rows * (1 - leaving) ** index))
    least = profile.least if first else Shape(1, limits.min_length)
    rows = least.rows, max(least.rows, usual_rows), profile.most.rows
    length = (least.length if manifest.padding_free else profile.least.length, *profile.lengths[1:])
    # A buffer was made for all rows of the segment before, whichever profile that ran under.
    most_rows = max(each.most.rows for each in profiles)
    longest = max(each.most.length for each in profiles)
    usual_before = max(rows[1], round(profile.usual.rows * (1 - leaving) ** max(0, index - 1)))
    drops = _Drops(ports, manifest, profile.usual.length, longest)
    sizes: dict[str, Sizes] = {}
    for axis in ports.axes:
        if axis.startswith("earlier_batch"):
            sizes[axis] = (1, usual_before, most_rows)
        elif axis == "batch":
            sizes[axis] = rows
        elif axis == "sequence":
            sizes[axis] = length
        elif axis.startswith("earlier_sequence"):
            sizes[axis] = (min(length[0], limits.min_length), profile.usual.length, longest)
        else:  # tokens that are left
            sizes[axis] = drops.before()
    for extent in ports.extents:
        sizes[extent.name] = drops.behind(extent.element, extent.total)
    return sizes


class _Drops:
    """How many tokens are left on the way, where the knob `lengths` has its default."""

    def __init__(self, ports: Ports, manifest: Manifest, usual: int, longest: int) -> None:
        self._extents = ports.extents
        self._usual, self._longest = usual, longest
        counts = [knob for knob in manifest.knobs if knob.count is not None]
        values = to_numbers(counts[0].default) if counts else 1.0
        self._values = np.ravel(values)

    def before(self) -> Sizes:
        """Say what the segment is fed."""
        if not self._extents:
            return 1, self._usual, self._longest
        first = self._extents[0]
        usual = self._left(first.element - 1, first.total)
        return 1, usual, max(self._longest, first.total or 0)

    def behind(self, element: int, total: int | None) -> Sizes:
        """Say what is left behind a layer."""
        return 1, self._left(element, total), max(self._longest, total or 0)

    def _left(self, element: int, total: int | None) -> int:
        whole = left = total or self._usual
        for layer in range(element + 1):
            value = self._values[min(layer, len(self._values) - 1)]
            wanted = np.ceil(float(value) * whole) if float(value) <= 1 else int(value)
            left = min(left, max(1, int(wanted)))
        return left

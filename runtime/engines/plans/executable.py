"""A loaded plan, as the chain sees it: contexts that compute, and what the plan reads and makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from numpy import ndarray

Shape = tuple[int, ...]
WIDTHS = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}


class Feed(NamedTuple):
    """An input on the device."""

    address: int
    shape: Shape


class Range(NamedTuple):
    """The shapes of one input under a profile: the least, the usual and the largest."""

    least: Shape
    usual: Shape
    most: Shape


Profile = Mapping[str, Range]  # of inputs on the device, and of host values as shapes of rank 1


class Extent(NamedTuple):
    """How many tokens are left behind an encoder layer; `extents.py` computes it.

    Attributes:
        knob: With one value for each encoder layer.
        element: Index of the layer's value.
        slack: What a share may be above a whole number.
        least: Tokens that a share leaves at least.
        total: Tokens of every row; None is the sum of its mask.
        exact: Whether it may not be rounded up.
    """

    knob: str
    element: int
    slack: float
    least: int
    total: int | None = None
    exact: bool = False


@dataclass(frozen=True)
class Signature:
    """What a plan reads and makes.

    Attributes:
        data: Inputs, states and carries that it reads.
        knobs: Knobs that it reads.
        rows: Carry or state -> the input with the indices of its rows that go on.
        kept: Input on the host -> the extent that it is.
        dtypes: Output -> how it is stored.
        profiles: In the order of the plan.
    """

    data: tuple[str, ...]
    knobs: tuple[str, ...]
    rows: Mapping[str, str]
    kept: Mapping[str, Extent]
    dtypes: Mapping[str, str]
    profiles: tuple[Profile, ...]


class Context(Protocol):
    """What one call at a time computes with."""

    def prepare(
        self,
        profile: int,
        feeds: Mapping[str, Feed],
        values: Mapping[str, ndarray],
        stream: int,
    ) -> dict[str, Shape]:
        """Bind the inputs.

        Args:
            profile: Index of the profile whose ranges hold the shapes.
            feeds: Inputs on the device.
            values: Inputs on the host, which decide shapes: int64.
            stream: Of the launch that follows.

        Returns:
            The shape of every output.
        """

    def launch(self, outputs: Mapping[str, int], stream: int) -> None:
        """Queue the work; the outputs are written to these addresses."""


class Executable(Protocol):
    """A loaded plan.

    Attributes:
        scratch: Bytes that a context needs while it computes.
    """

    scratch: int

    def context(self, scratch: int, size: int) -> Context:
        """Create a context that computes in the memory at the address `scratch`.

        Contexts that never compute at the same time may share this memory.
        """

"""Choose the value that costs least, up to the first that loses too much accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple


class Measured(NamedTuple):
    """What a value gives: accuracy in percent, and cost (such as layers a text)."""

    value: float
    accuracy: float
    cost: float


def choose(full: Measured, tried: Sequence[Measured], loss: float) -> Measured:
    """The cheapest value before accuracy falls more than `loss` points below `full`.

    A lucky value behind the first that loses too much is not trusted.
    """
    dearest_first = sorted([full, *tried], key=lambda item: -item.cost)
    good = takewhile(lambda item: item.accuracy >= full.accuracy - loss - 1e-9, dearest_first)
    return list(good)[-1]

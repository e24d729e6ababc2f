"""Bundles that an engine chains alone: its answers go where those of our loop would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.chain.by_variant import Mode
from effbert.runtime.chain.results import ExitOutputs, Result
from effbert.runtime.chain.step import Tensors
from effbert.runtime.chain.stopping import Cancel, Deadline
from effbert.runtime.engines.protocol import OwnChain, Values
from effbert.runtime.errors import NumericalError


class OwnChains:
    """What `Chains` is for other engines: there is one chain, which knows all variants.

    Attributes:
        default: The chain.
        mode: How it runs.
    """

    mode = Mode(joined=False, reason="the engine chains the segments itself")

    def __init__(self, manifest: Manifest, opened: OwnChain) -> None:
        self.default = _Chain(opened, [segment.layer for segment in manifest.segments])

    def chosen(self, knobs: Values) -> _Chain:
        """Return the chain."""
        return self.default

    def close(self) -> None:
        """Free the segments of all variants."""
        self.default.close()


class _Chain:
    """See `Chain`."""

    def __init__(self, opened: OwnChain, layers: list[int]) -> None:
        self._opened = opened
        self.layers = layers

    def run(
        self,
        inputs: Tensors,
        rows: np.ndarray,
        knobs: Values,
        result: Result,
        deadline: Deadline,
        cancel: Cancel | None = None,
        options: Any = None,
    ) -> None:
        """Answer the rows; each takes the first exit that fires."""
        if cancel is not None:
            cancel.check()
        remaining_ms = None if deadline.never else max(0.0, 1000 * deadline.left())
        with _naming(rows):
            answers = self._opened.run(inputs, knobs, remaining_ms, options)
        result.put_all(rows, answers)

    def run_all(
        self, inputs: Tensors, rows: np.ndarray, knobs: Values, outputs: ExitOutputs
    ) -> None:
        """Run every segment on all rows, whatever the exits say, and keep every answer."""
        with _naming(rows):
            answers = self._opened.run(inputs, knobs, every_exit=True)
        every = {**answers.outputs, "signal": answers.signal}
        for index in range(len(self.layers)):
            part = slice(index * len(rows), (index + 1) * len(rows))
            outputs.put(rows, index, {name: value[part] for name, value in every.items()})

    def close(self) -> None:
        """Free the segments."""
        self._opened.close()


@contextmanager
def _naming(rows: np.ndarray) -> Iterator[None]:
    """Call rows that an engine complains of what the caller calls them."""
    try:
        yield
    except NumericalError as error:
        raise NumericalError(rows[error.rows].tolist(), error.what) from None

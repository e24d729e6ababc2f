"""What a run returns, and the arrays it is collected in."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from effbert.runtime.bundle.manifest import Axis, Manifest
from effbert.runtime.chain.step import Outputs, Step
from effbert.runtime.errors import InputError


class Layout:
    """Which arrays a result of a bundle holds, and their axes."""

    def __init__(self, manifest: Manifest) -> None:
        outputs = [item for segment in manifest.segments for item in segment.outputs]
        self.axes = {item.name: item.axes for item in outputs if item.name in manifest.outputs}
        self.tokens_exit = any(item.name == "exit_layer" for item in outputs)
        self.has_sequence = self.tokens_exit or any("sequence" in a for a in self.axes.values())


class Result:
    """What `Session.run` returns; row i answers row i of the inputs.

    Attributes:
        outputs: Output name -> float32 [batch, ...]; columns that are padding may be zeros.
        signal: float32 [batch], what the exit policy compared.
    """

    outputs: dict[str, np.ndarray]
    signal: np.ndarray

    def __init__(self, layout: Layout, rows: int, length: int) -> None:
        self._layout = layout
        self._shape = rows, length
        self._only: Step | None = None  # the exit that all rows took together
        self._stored = False
        if rows == 0:
            self._make_room()

    # Arrays that many callers never look at are made when they do.

    @cached_property
    def exit_index(self) -> np.ndarray:
        """The 0-based index of the exit in the chain, int64 [batch]."""
        assert self._only is not None
        return np.full(self._shape[0], self._only.index)

    @cached_property
    def exit_layer(self) -> np.ndarray:
        """The 1-based encoder layer, int64 [batch]; [batch, sequence] if tokens exit alone."""
        assert self._only is not None
        return np.full(self._shape[0], self._only.layer)

    @cached_property
    def deadline_hit(self) -> np.ndarray:
        """Whether the answer is the last one before the deadline, bool [batch]."""
        return np.zeros(self._shape[0], dtype=bool)

    @cached_property
    def truncated(self) -> np.ndarray:
        """Whether the text was longer than the model reads, bool [batch]."""
        return np.zeros(self._shape[0], dtype=bool)

    @property
    def logits(self) -> np.ndarray:
        """The output `logits`, float32 [batch, ...]."""
        if "logits" not in self.outputs:
            raise InputError(f"This bundle has no logits; its outputs are {list(self.outputs)}.")
        return self.outputs["logits"]

    def exit_counts(self) -> list[tuple[int, int]]:
        """Count rows: (index of an exit, rows that left there), without empty exits."""
        if self._only is not None:
            return [(self._only.index, self._shape[0])]
        return [pair for pair in enumerate(np.bincount(self.exit_index).tolist()) if pair[1]]

    def deadline_hits(self) -> int:
        """Count the rows that a deadline stopped, without making the array."""
        return int(self.deadline_hit.sum()) if "deadline_hit" in self.__dict__ else 0

    def put(self, rows: np.ndarray, step: Step, out: Outputs) -> None:
        """Store the answers of the rows that leave at an exit."""
        if len(rows) == self._shape[0] and not self._layout.has_sequence:
            self._keep_all(step, out)
            return
        if not self._stored:
            self._make_room()
        for name, target in self.outputs.items():
            _store(target, rows, out[name])
        self.exit_index[rows] = step.index
        if "exit_layer" in out:
            _store(self.exit_layer, rows, out["exit_layer"])
        else:
            self.exit_layer[rows] = step.layer
        self.signal[rows] = out["signal"]

    def _keep_all(self, step: Step, out: Outputs) -> None:
        """Take the arrays of an exit at which all rows stop together, as they are."""
        self.outputs = {name: out[name] for name in self._layout.axes}
        self.signal = out["signal"]
        self._only = step

    def _make_room(self) -> None:
        rows, length = self._shape
        self.outputs = {
            name: np.zeros(_shape(axes, rows, length), dtype=np.float32)
            for name, axes in self._layout.axes.items()
        }
        tokens_exit = self._layout.tokens_exit
        self.exit_index = np.zeros(rows, dtype=np.int64)
        self.exit_layer = np.zeros((rows, length) if tokens_exit else rows, dtype=np.int64)
        self.signal = np.zeros(rows, dtype=np.float32)
        self._stored = True


class ExitAnswers(dict[str, np.ndarray]):
    """What every exit says: output name -> float32 [exits, batch, ...].

    Attributes:
        signal: float32 [exits, batch], what the exit policy compares.
    """

    signal: np.ndarray


class ExitOutputs:
    """Collects what every exit says in `outputs`."""

    def __init__(self, manifest: Manifest, rows: int, length: int) -> None:
        exits = len(manifest.segments)
        self.outputs = ExitAnswers(
            (item.name, np.zeros((exits, *_shape(item.axes, rows, length)), dtype=np.float32))
            for item in manifest.segments[0].outputs
            if item.name in manifest.outputs
        )
        self.outputs.signal = np.zeros((exits, rows), dtype=np.float32)

    def put(self, rows: np.ndarray, step: Step, out: Outputs) -> None:
        """Store the answers of one exit."""
        for name, target in self.outputs.items():
            _store(target[step.index], rows, out[name])
        self.outputs.signal[step.index, rows] = out["signal"]


def _shape(axes: list[Axis], rows: int, length: int) -> tuple[int, ...]:
    extents = {"batch": rows, "sequence": length}
    return tuple(extents[axis] if isinstance(axis, str) else axis for axis in axes)


def _store(target: np.ndarray, rows: np.ndarray, value: np.ndarray) -> None:
    if target.ndim > 1 and value.shape[1] < target.shape[1]:
        target[rows, : value.shape[1]] = value
    else:
        target[rows] = value

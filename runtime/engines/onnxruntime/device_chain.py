"""Segments of onnxruntime on a GPU, chained: carries stay there, the host reads who leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray
from onnxruntime import InferenceSession, OrtValue

from effbert.runtime.bundle.manifest import Manifest, Segment, Tensor
from effbert.runtime.engines.failures import translated
from effbert.runtime.engines.forks import keep_in_children
from effbert.runtime.engines.onnxruntime.taking import Take, take_graph
from effbert.runtime.engines.protocol import Carry, Values

EXIT = "exit"
Open = Callable[[bytes], InferenceSession]


class OnGpu:
    """A carry in memory of the GPU; see `Resident`. Its rows are taken when a segment reads it."""

    __slots__ = ("_columns", "_rows", "_sequence", "_value", "shape")

    def __init__(
        self,
        value: OrtValue,
        shape: tuple[int, ...],
        sequence: int | None,
        rows: ndarray | None = None,
        columns: int | None = None,
    ) -> None:
        self._value = value
        self.shape = shape
        self._sequence = sequence
        self._rows = rows
        self._columns = columns

    def narrowed(self, rows: ndarray | slice, columns: int | None) -> OnGpu:
        """Choose rows and columns; nothing is copied yet."""
        every = np.arange(self.shape[0]) if self._rows is None else self._rows
        chosen = every[rows]
        shape = [len(chosen), *self.shape[1:]]
        if columns is None or self._sequence is None:
            columns = self._columns
        else:
            shape[self._sequence] = columns
        return OnGpu(self._value, tuple(shape), self._sequence, chosen, columns)

    def taken(self, takes: Takes) -> OrtValue:
        """Return what goes on, as a value of its own."""
        if self._rows is not None:
            take = takes(self._value, None if self._columns is None else self._sequence)
            self._value = take(self._value, self._rows, self._columns)
            self._rows = self._columns = None
        return self._value


class Takes:
    """Graphs that take rows, opened when they are first needed."""

    def __init__(self, open_model: Open, device: str, index: int) -> None:
        names = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool"}

        @cache
        def take(data_type: str, axis: int | None) -> Take:
            return Take(open_model(take_graph(names[data_type], axis)), device, index)

        self._take = take

    def __call__(self, value: OrtValue, axis: int | None) -> Take:
        """Return the graph for values of this type."""
        return self._take(value.data_type(), axis)


class Fetched(Mapping[str, ndarray]):
    """The outputs of a segment; those with an answer a token come when they are looked at."""

    def __init__(self, values: Mapping[str, OrtValue]) -> None:
        self._values = values
        self._read: dict[str, ndarray] = {}

    def __getitem__(self, name: str) -> ndarray:
        if name not in self._read:
            self._read[name] = self._values[name].numpy()
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class DeviceChain:
    """A `RunnableChain` of sessions on a GPU. Calls share nothing but the sessions."""

    joined = False

    def __init__(
        self,
        manifest: Manifest,
        sessions: Sequence[InferenceSession],
        takes: Takes,
        device: str,
        index: int,
    ) -> None:
        keep_in_children(self)
        self.reason = f"onnxruntime chains the segments on {device}:{index}"
        knobs = {knob.name for knob in manifest.knobs}
        self._steps = [
            _Step(segment, session, knobs, takes, (device, index))
            for segment, session in zip(manifest.segments, sessions, strict=True)
        ]

    def begin(self) -> DeviceChain:
        """Return the chain itself: what a call makes goes with its values."""
        return self

    def end(self) -> None:
        """Do nothing: the memory of a call goes with its values."""

    def run(
        self,
        first: int,
        most: int,
        tensors: Mapping[str, Any],
        knobs: Values,
        options: Any = None,
    ) -> tuple[int, Mapping[str, ndarray], Mapping[str, Carry]]:
        """Run segments until a row leaves."""
        there = dict(tensors)
        carried: dict[str, Carry] = {}
        for index in range(first, first + most):
            out, made = self._steps[index].run(there, knobs[index], options)
            there |= made
            carried |= made
            if any(out[EXIT].tolist()):
                break
        return index, out, carried


class _Step:
    """A segment: what it reads, and where each of its outputs goes."""

    def __init__(
        self,
        segment: Segment,
        session: InferenceSession,
        knobs: set[str],
        takes: Takes,
        device: tuple[str, int],
    ) -> None:
        self._file = segment.file
        self._session = session
        self._takes = takes
        self._device = device
        self._data = [item.name for item in segment.inputs if item.name not in knobs]
        self._knobs = [item.name for item in segment.inputs if item.name in knobs]
        self._carries = {source: name for name, source in segment.carries.items()}
        self._outputs = [item.name for item in segment.outputs]
        self._sequence = {item.name: _sequence(item) for item in segment.outputs}

    def run(
        self, tensors: Mapping[str, Any], knobs: Mapping[str, ndarray], options: Any
    ) -> tuple[Fetched, dict[str, OnGpu]]:
        try:
            return self._run(tensors, knobs, options)
        except Exception as error:
            raise translated(error, "onnxruntime", "run", self._file) from error

    def _run(
        self, tensors: Mapping[str, Any], knobs: Mapping[str, ndarray], options: Any
    ) -> tuple[Fetched, dict[str, OnGpu]]:
        binding = self._session.io_binding()
        for name in self._data:
            value = tensors[name]
            if isinstance(value, OnGpu):
                binding.bind_ortvalue_input(name, value.taken(self._takes))
            else:
                binding.bind_cpu_input(name, value)
        for name in self._knobs:
            binding.bind_cpu_input(name, knobs[name])
        for name in self._outputs:
            stays = name in self._carries or self._sequence[name] is not None
            binding.bind_output(name, *(self._device if stays else ("cpu", 0)))
        self._session.run_with_iobinding(binding, options)
        values = dict(zip(self._outputs, binding.get_outputs(), strict=True))
        made = {
            carry: OnGpu(values[source], tuple(values[source].shape()), self._sequence[source])
            for source, carry in self._carries.items()
        }
        return Fetched({n: v for n, v in values.items() if n not in self._carries}), made


def _sequence(tensor: Tensor) -> int | None:
    return tensor.axes.index("sequence") if "sequence" in tensor.axes else None

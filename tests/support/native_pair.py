"""A bundle opened by Python and by the native library, which must give the same bytes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effbert.runtime import Session
from effbert.runtime.bundle.manifest import Knob, Manifest
from effbert.runtime.chain.batches import by_length
from effbert.runtime.engines.native.native_library import load_library, onnxruntime_library
from effbert.runtime.engines.native.native_session import NativeKnob, NativeResult, NativeSession
from effbert.runtime.errors import MissingDependencyError
from effbert.runtime.session import ROWS_OF_TEXT
from effbert.runtime.texts.tokenization import Text, TextEncoder

Inputs = Mapping[str, np.ndarray]


@cache
def _library() -> ctypes.CDLL | str:
    try:
        return load_library()
    except MissingDependencyError as error:
        return str(error)


def native_library() -> ctypes.CDLL:
    """The library that `make native` built; without it the test is skipped."""
    found = _library()
    if isinstance(found, str):
        pytest.skip(f"{found} (`make native` builds it)")
    return found


def open_native(bundle: Path, **options: Any) -> NativeSession:
    """A bundle on the onnxruntime that Python uses, with one thread."""
    given = {"onnxruntime": str(onnxruntime_library()).encode(), "threads": 1}
    return NativeSession(native_library(), bundle, **(given | options))


class Pair:
    """One bundle, opened twice."""

    def __init__(self, bundle: Path, **options: Any) -> None:
        self.native = open_native(bundle, **options)
        python = {name: value for name, value in options.items() if name == "max_batch_tokens"}
        self.python = Session(bundle, threads=1, **python)
        self.manifest: Manifest = self.python.bundle.manifest

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.native.close()
        self.python.close()

    def compare(
        self, inputs: Inputs, knobs: Mapping[str, Any], deadline_ms: float | None = None
    ) -> NativeResult:
        """Answer the same rows on both sides, require the same bytes, and return them."""
        expected = self.python.run(inputs, knobs, deadline_ms)
        found = self.native.run(
            inputs,
            self.manifest.outputs,
            native_knobs(knobs),
            -1 if deadline_ms is None else deadline_ms,
        )
        for name in self.manifest.outputs:
            same_bytes(expected.outputs[name], found.outputs[name])
        same_bytes(expected.signal, found.signal)
        same_bytes(expected.exit_index, found.exit_index)
        same_bytes(expected.exit_layer, found.exit_layer)
        assert expected.deadline_hit.tolist() == ((found.flags & 2) != 0).tolist()
        return found

    def compare_texts(self, texts: Sequence[Text], knobs: Mapping[str, Any]) -> NativeResult:
        """The same for texts, which each side tokenizes itself."""
        found = self.native.run_texts(texts, self.manifest.outputs, native_knobs(knobs))
        encoder = TextEncoder(self.python.bundle)
        encoded = encoder.encode(texts)
        assert [item.truncated for item in encoded] == ((found.flags & 1) != 0).tolist()
        for rows in by_length([len(item.ids) for item in encoded], ROWS_OF_TEXT):
            inputs = encoder.padded([encoded[row] for row in rows])
            expected = self.python.run(inputs, knobs)
            same_bytes(expected.exit_index, found.exit_index[rows])
            same_bytes(expected.signal, found.signal[rows])
            length = inputs["input_ids"].shape[1]
            for name in self.manifest.outputs:
                values = found.outputs[name][rows]
                if expected.outputs[name].shape != values.shape:
                    assert not values[:, length:].any()
                    values = np.ascontiguousarray(values[:, :length])
                same_bytes(expected.outputs[name], values)
        return found

    def compare_every_exit(self, inputs: Inputs, knobs: Mapping[str, Any]) -> np.ndarray:
        """The same for the answers of all exits; returns the signals, [exits, rows]."""
        expected = self.python.run_exits(inputs, knobs)
        found = self.native.run(inputs, self.manifest.outputs, native_knobs(knobs), every_exit=True)
        for name in self.manifest.outputs:
            same_bytes(expected[name], found.outputs[name].reshape(expected[name].shape))
        same_bytes(expected.signal, found.signal.reshape(expected.signal.shape))
        return expected.signal


def same_bytes(expected: np.ndarray, found: np.ndarray) -> None:
    assert (expected.shape, expected.dtype) == (found.shape, found.dtype)
    assert expected.tobytes() == found.tobytes()


def native_knobs(knobs: Mapping[str, Any]) -> dict[str, NativeKnob]:
    """Knob values as the native library takes them: whether they are integers is said beside."""
    listed = {name: np.atleast_1d(value).tolist() for name, value in knobs.items()}
    return {
        name: NativeKnob(values, all(isinstance(value, int) for value in values))
        for name, values in listed.items()
    }


def random_inputs(manifest: Manifest, rows: int, length: int, seed: int = 0) -> dict[str, Any]:
    """Rows of random length; the longest has this one, the others padding at their ends."""
    generator = np.random.default_rng([seed, rows, length])
    limits = manifest.limits
    lengths = generator.integers(limits.min_length, length + 1, rows)
    lengths[:1] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    ids = np.where(mask, generator.integers(0, limits.vocab_size, mask.shape), limits.pad_id)
    given: dict[str, np.ndarray] = {"input_ids": ids, "attention_mask": mask}
    names = {item.name for item in manifest.inputs}
    if "token_type_ids" in names and limits.type_vocab_size > 1:
        given["token_type_ids"] = generator.integers(0, 2, mask.shape) * mask
    if "word_map" in names:
        first = np.arange(length) // 2 * 2
        given["word_map"] = np.where(mask, first, -1)
    return given


def thresholds(knob: Knob, signals: np.ndarray) -> list[Any]:
    """Values of a knob that spread rows over the exits: one for all, and one an exit."""
    if knob.choices is not None:
        return [float(choice) for choice in knob.choices]
    if knob.unit == "tokens":
        count = knob.count or 1
        return [0.6, 9, [1.0 - layer / (2 * count) for layer in range(count)]]
    low, high = float(knob.minimum), float(knob.maximum)
    finite = signals[np.isfinite(signals)]
    values = [min(max(float(np.quantile(finite, share)), low), high) for share in (0.1, 0.5, 0.9)]
    if knob.dtype == "int64":
        return [round(value) for value in values]
    each = np.quantile(np.where(np.isfinite(signals), signals, 0), 0.3, axis=1)
    return [*values, np.clip(each, low, high).tolist()] if knob.per_exit else values

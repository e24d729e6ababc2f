"""Run segments one by one and show what each is fed and computes: int8 ranges come from this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.chain.knobs import Knobs
from effbert.runtime.chain.loop import Chain
from effbert.runtime.chain.one_by_one import OneByOne
from effbert.runtime.chain.results import ExitOutputs
from effbert.runtime.engines.protocol import EngineSettings, Runnable
from effbert.runtime.engines.table import open_engine
from effbert.runtime.engines.threads import choose_threads

Tensors = Mapping[str, np.ndarray]
Observe = Callable[[int, Tensors, Tensors], None]


class _Recorder:
    """A segment whose runs are shown, as a `Runnable`."""

    def __init__(self, index: int, runnable: Runnable, observe: Observe) -> None:
        self._index = index
        self._runnable = runnable
        self._observe = observe

    def run(self, feeds: Tensors, options: Any = None) -> dict[str, np.ndarray]:
        out = self._runnable.run(feeds, options)
        self._observe(self._index, feeds, out)
        return out


def record_segments(
    manifest: Manifest,
    models: Sequence[bytes],
    batches: Iterable[dict[str, np.ndarray]],
    observe: Observe,
    engine: str = "onnxruntime",
) -> None:
    """Run batches through all segments; no row leaves early.

    Args:
        manifest: Of the segments.
        models: The ONNX file of each segment; it may have more outputs than the manifest lists.
        batches: Inputs by name, int64 [rows, sequence].
        observe: Called after every run with the index of the segment, what it was fed and what it
            computed.
        engine: What runs the segments.

    Raises:
        EngineError, ResourceError: A segment cannot be opened or run.
        NumericalError: Answers are not finite.
    """
    opened = open_engine(engine, EngineSettings(threads=choose_threads().told))
    recorders = [
        _Recorder(index, opened.load(segment.file, model, None), observe)
        for index, (segment, model) in enumerate(zip(manifest.segments, models, strict=True))
    ]
    chain, knobs = Chain(manifest, OneByOne(manifest, recorders)), Knobs(manifest).over_never(None)
    for batch in batches:
        rows, length = batch["input_ids"].shape
        chain.run_all(batch, np.arange(rows), knobs, ExitOutputs(manifest, rows, length))

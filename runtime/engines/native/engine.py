"""Bundles opened and chained by the native library, on an onnxruntime of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.engines.native.interface import DEADLINE
from effbert.runtime.engines.native.native_library import load_library, onnxruntime_library
from effbert.runtime.engines.native.native_session import (
    NEVER,
    NativeCancel,
    NativeKnob,
    NativeSession,
)
from effbert.runtime.engines.protocol import (
    UNLIMITED,
    ChainAnswers,
    EngineSettings,
    Runnable,
    RunnableChain,
    Values,
)

UNBOUNDED = 1 << 62  # tokens: batches are split before


class Native:
    """Opens bundles with `effbert-native`; see `Engine` and `BundleEngine`."""

    limits = UNLIMITED
    chains = True
    measured_rows = None

    def __init__(self, settings: EngineSettings) -> None:
        self._library = load_library()
        self._settings = settings

    def open(self, bundle: Bundle) -> NativeChain:
        """Open a bundle; see `BundleEngine`."""
        onnxruntime = onnxruntime_library()
        device = self._settings.device
        session = NativeSession(
            self._library,
            bundle.path,
            onnxruntime=str(onnxruntime).encode() if onnxruntime else None,
            device=device.encode() if device else None,
            threads=self._settings.threads or 0,
            max_batch_tokens=UNBOUNDED,
        )
        return NativeChain(session, bundle.manifest)

    def load(self, name: str, model: bytes, weights: bytes | None) -> Runnable:
        """Refuse: bundles are opened by `open`."""
        raise NotImplementedError(f"{name} is part of a bundle")

    def join(
        self, manifest: Manifest, files: Iterable[bytes], weights: bytes | None
    ) -> RunnableChain:
        """Refuse: bundles are opened by `open`."""
        raise NotImplementedError("bundles are opened whole")

    def options(self) -> NativeCancel:
        """Options of one call; setting `terminate` stops it."""
        return NativeCancel(self._library)


class NativeChain:
    """An open bundle; see `OwnChain`."""

    def __init__(self, session: NativeSession, manifest: Manifest) -> None:
        self._session = session
        self._outputs = list(manifest.outputs)
        self._lengths = {knob.name for knob in manifest.knobs if knob.unit == "tokens"}

    def run(
        self,
        inputs: Mapping[str, np.ndarray],
        knobs: Values,
        remaining_ms: float | None = None,
        options: Any = None,
        every_exit: bool = False,
    ) -> ChainAnswers:
        """Answer rows."""
        found = self._session.run(
            inputs,
            self._outputs,
            {name: self._given(name, knobs) for name in knobs[0]},
            NEVER if remaining_ms is None else remaining_ms,
            options,
            every_exit,
        )
        late = (found.flags & DEADLINE) != 0
        return ChainAnswers(found.outputs, found.exit_index, found.exit_layer, found.signal, late)

    def close(self) -> None:
        """Free the segments."""
        self._session.close()

    def _given(self, name: str, knobs: Values) -> NativeKnob:
        """Turn what graphs are fed for a knob back into what a caller says."""
        first = knobs[0][name]
        if first.ndim:  # one value an encoder layer
            values = first.tolist()
            if name in self._lengths and values[0] > 1:  # counts of tokens, plus a half
                return NativeKnob([value - 0.5 for value in values], integers=True)
            return NativeKnob(values)
        values = [segment[name].item() for segment in knobs]
        return NativeKnob(values if len(set(values)) > 1 else values[:1])

"""An engine whose segments only wait: every row exits where its first token id says."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from effbert.runtime.engines.protocol import (
    UNLIMITED,
    CannotJoinError,
    EngineSettings,
    RunnableChain,
)
from effbert.runtime.errors import EngineError, ResourceError

SECONDS = 0.1
ENTRY = ("fake_engine:Waiting", "nothing", "nothing")
WORDS_BEFORE = 5  # token id 5 + k leaves at exit k


class Options:
    terminate = False


class Waiting:
    """Every segment takes `SECONDS`, in slices that see `terminate`.

    Attributes:
        shapes: Input shape of every run, in order.
        largest: Runs with more rows fail for want of memory.
    """

    largest = 1 << 30
    limits = UNLIMITED
    chains = False
    measured_rows: float | None = None

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.shapes: list[tuple[str, tuple[int, ...]]] = []

    def load(self, name: str, model: bytes, weights: bytes | None) -> "WaitingSegment":
        return WaitingSegment(self, name)

    def join(self, *_: object) -> RunnableChain:
        raise CannotJoinError("it only waits")

    def options(self) -> Options:
        return Options()


class WaitingSegment:
    def __init__(self, engine: Waiting, name: str) -> None:
        self._engine = engine
        self._name = name
        self._index = int(name[8:10])

    def run(self, feeds: Mapping[str, np.ndarray], options: Any = None) -> dict[str, np.ndarray]:
        hidden = feeds.get("hidden")
        if hidden is None:
            hidden = feeds["input_ids"][..., None].astype(np.float32)
        self._engine.shapes.append((self._name, hidden.shape[:2]))
        if len(hidden) > self._engine.largest:
            raise ResourceError(f"out of memory in {self._name}")
        for _ in range(10):
            time.sleep(SECONDS / 10)
            if options is not None and options.terminate:
                raise EngineError(f"{self._name} was terminated")
        first = hidden[:, 0, 0]
        return {
            "hidden_out": hidden,
            "logits": np.stack([first, first * 0 + self._index, first * 0], axis=1),
            "signal": np.full(len(first), self._index, np.float32),
            "exit": (first == WORDS_BEFORE + self._index) | (self._index == 2),
        }

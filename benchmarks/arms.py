"""Ways to answer token ids, each in a process of its own that measures on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fresh import CONTEXT

CALM = 0.1  # seconds; the threads of onnxruntime's default settings spin for half of that
Inputs = dict[str, np.ndarray]  # int64 [batch, sequence] by name
Answer = Callable[[Inputs], np.ndarray]
Opener = Callable[[Path], Answer]


def open_chain(bundle: Path) -> Answer:
    from effbert.runtime import Session

    session = Session(bundle)
    return lambda inputs: session.run(inputs).logits


def open_uncut(path: Path) -> Answer:
    from effbert.runtime.engines.table import open_engine

    segment = open_engine("onnxruntime").load(path.name, path.read_bytes(), None)
    return lambda inputs: segment.run(inputs)["logits"]


def open_defaults(path: Path) -> Answer:
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["logits"], inputs)[0]


class Block(NamedTuple):
    """Seconds of each call, and the seconds of it inside `run` of onnxruntime's class in C++."""

    whole: list[float]
    inside: list[float]


def serve(pipe: Connection, opener: Opener, path: Path) -> None:
    """Opens an arm, then does what the other end of the pipe asks for."""
    # The class in C++: effbert's chain keeps its method, and the one in Python calls it.
    from onnxruntime.capi.onnxruntime_pybind11_state import InferenceSession

    inside = 0.0
    run = InferenceSession.run

    def timed(*arguments: object) -> object:
        nonlocal inside
        started = time.perf_counter()
        outputs = run(*arguments)
        inside += time.perf_counter() - started
        return outputs

    InferenceSession.run = timed
    answer = opener(path)
    while request := pipe.recv():
        calls, passes = request
        if passes == 0:
            pipe.send(np.concatenate([answer(inputs) for inputs in calls]))
            continue
        if len(calls) * passes > 1:
            answer(calls[0])  # wakes threads and caches; a single call is long enough without
        block = Block([], [])
        for inputs in [*calls] * passes:
            inside = 0.0
            started = time.perf_counter()
            answer(inputs)
            block.whole.append(time.perf_counter() - started)
            block.inside.append(inside)
        pipe.send(block)


class Arm:
    """The near end of an arm's process, which ends with it."""

    def __init__(self, opener: Opener, path: Path) -> None:
        self._pipe, there = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=serve, args=(there, opener, path), daemon=True)
        self._process.start()
        there.close()

    def answer(self, calls: Sequence[Inputs]) -> np.ndarray:
        """The logits of all rows of all calls."""
        self._pipe.send((calls, 0))
        return self._pipe.recv()

    def measure(self, calls: Sequence[Inputs], passes: int) -> Block:
        """Times each of the calls, so many times, once the threads of other arms sleep."""
        time.sleep(CALM)
        self._pipe.send((calls, passes))
        return self._pipe.recv()

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join()

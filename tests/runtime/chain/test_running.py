"""Threads, cancellation, deadlines, closing, and batches that do not fit."""

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import fake_engine
from bundle_edits import edit_segment
from effbert.runtime import Cancel, Session
from effbert.runtime.engines.row_independence import DIFFERENCES
from effbert.runtime.engines.table import ENGINES, Entry
from effbert.runtime.errors import (
    CancelledError,
    EngineError,
    InputError,
    ResourceError,
    RunError,
)
from fake_engine import SECONDS, WORDS_BEFORE
from tiny_bundle import MAX_LENGTH, VOCABULARY

TRIES = 5

ONE = {"input_ids": [[2, 5, 6, 3]]}


@pytest.fixture
def waiting(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session whose three segments take 0.1 s each; token 5 + k leaves at exit k."""
    monkeypatch.setitem(ENGINES, "waiting", Entry(*fake_engine.ENTRY))
    monkeypatch.setitem(DIFFERENCES, ("waiting", "fp32"), 0.0)
    session = Session(pristine, engine="waiting")
    yield session
    session.close()


def leaving_at(*exits: int) -> dict[str, np.ndarray]:
    return {"input_ids": np.array([[WORDS_BEFORE + exit_, 3] for exit_ in exits])}


def requests(count: int) -> list[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    generator = np.random.default_rng(5)
    made = []
    for _ in range(count):
        shape = generator.integers(1, 5), generator.integers(2, MAX_LENGTH)
        ids = generator.integers(0, len(VOCABULARY), shape)
        mask = (np.arange(shape[1]) < generator.integers(1, shape[1] + 1, (shape[0], 1))).astype(
            int
        )
        knobs = {"threshold": float(generator.choice([0.0, 0.4, 0.8, 2.0]))}
        made.append(({"input_ids": ids, "attention_mask": mask}, knobs))
    return made


def signature(result: Any) -> tuple[bytes, ...]:
    return tuple(
        value.tobytes()
        for value in (result.logits, result.exit_index, result.exit_layer, result.signal)
    )


@pytest.fixture
def switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


# R1, R2, R3: threads


def test_threads_get_the_answers_of_one_thread(pristine: Path, switching_often: None) -> None:
    work = requests(60)
    with Session(pristine, threads=1) as session:
        serial = [signature(session.run(inputs, knobs=knobs)) for inputs, knobs in work]
        barrier = threading.Barrier(8)

        def thread(seed: int) -> int:
            order = np.random.default_rng(seed).permutation(len(work))
            barrier.wait()
            wrong = 0
            for place in order:
                inputs, knobs = work[place]
                wrong += signature(session.run(inputs, knobs=knobs)) != serial[place]
            return wrong

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(thread, range(8))) == 0


def test_knobs_of_calls_at_the_same_time_never_mix(pristine: Path, switching_often: None) -> None:
    with Session(pristine, threads=1) as session:

        def thread(threshold: float) -> set[int]:
            seen = set()
            for _ in range(150):
                seen.add(int(session.run(ONE, knobs={"threshold": threshold}).exit_index[0]))
            return seen

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(thread, [0.0, 2.0, 0.0, 2.0])) == [{2}, {0}, {2}, {0}]


def test_threads_share_the_tokenizer(pristine: Path, switching_often: None) -> None:
    texts = ["good", "film " * 20, "very " * 60, "", "the plot was dull , but fun"]
    with Session(pristine, threads=1) as session:
        expected = [item.ids for item in session._encoder.encode(texts)]

        def thread(shift: int) -> bool:
            order = np.roll(range(len(texts)), shift)
            return all(
                [item.ids for item in session._encoder.encode([texts[i] for i in order])]
                == [expected[i] for i in order]
                for _ in range(100)
            )

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(thread, range(6)))


# R4: cancellation, deadlines, closing


@pytest.mark.parametrize("after", [0.0, 0.5, 1.5, 2.5])
def test_a_cancelled_call_stops_within_a_segment(waiting: Session, after: float) -> None:
    cancel = Cancel()
    threading.Timer(after * SECONDS, cancel.cancel).start()
    start = time.monotonic()
    with pytest.raises(CancelledError, match="cancelled"):
        waiting.run(leaving_at(2), cancel=cancel)
    assert time.monotonic() - start < (after + 1) * SECONDS + 0.1
    assert waiting.run(leaving_at(0)).exit_index.tolist() == [0]


def test_cancel_stops_onnxruntime_in_the_middle_of_a_segment(bundle: Path) -> None:
    edit_segment(bundle, lambda model: slow_down(model, 3000))
    with Session(bundle, threads=1) as session:
        ids = {"input_ids": np.full((400, MAX_LENGTH), 5)}
        start = time.monotonic()
        session.run(ids, knobs={"threshold": 2.0})
        whole = time.monotonic() - start
        cancel = Cancel()
        threading.Timer(whole / 10, cancel.cancel).start()
        start = time.monotonic()
        with pytest.raises(CancelledError) as caught:
            session.run(ids, knobs={"threshold": 2.0}, cancel=cancel)
        assert time.monotonic() - start < whole / 2
        assert isinstance(caught.value.__cause__, EngineError)
        assert session.run(ONE).exit_index.tolist() == [2]


def slow_down(model: Any, rounds: int) -> None:
    """Puts a chain of `rounds` operators in front of the hidden states."""
    nodes = model.graph.node
    at = next(i for i, node in enumerate(nodes) if node.output[0] == "hidden_out")
    names = ["moved", *(f"slow_{index}" for index in range(rounds))]
    nodes[at].input[0] = names[-1]
    for index in range(rounds):
        node = onnx.helper.make_node("Tanh", [names[index]], [names[index + 1]])
        nodes.insert(at + index, node)


def test_a_used_cancel_stays_cancelled_and_stops_every_call_that_holds_it(
    waiting: Session,
) -> None:
    cancel = Cancel()
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(waiting.run, leaving_at(2), cancel=cancel) for _ in range(3)]
        time.sleep(SECONDS / 2)
        cancel.cancel()
        for call in calls:
            with pytest.raises(CancelledError):
                call.result()
    with pytest.raises(CancelledError):
        waiting(["good"], cancel=cancel)


@pytest.mark.parametrize(
    "deadline, reached", [(0, 0), (1.5 * SECONDS * 1000, 0), (2.5 * SECONDS * 1000, 1)]
)
def test_rows_get_the_last_answer_before_a_segment_would_miss_the_deadline(
    waiting: Session, deadline: float, reached: int
) -> None:
    for _ in range(TRIES):  # a busy machine may be late, but not every time
        result = waiting.run(leaving_at(0, 2, 2), deadline_ms=deadline)
        if result.exit_index[1] == reached:
            break
    assert result.exit_index.tolist() == [0, reached, reached]
    assert result.exit_layer.tolist() == [1, reached + 1, reached + 1]
    assert result.deadline_hit.tolist() == [False, True, True]
    assert result.logits[:, 1].tolist() == [0, reached, reached]


def test_a_deadline_that_is_not_reached_changes_nothing(waiting: Session) -> None:
    result = waiting.run(leaving_at(0, 2, 1), deadline_ms=60_000)
    assert result.exit_index.tolist() == [0, 2, 1]
    assert not result.deadline_hit.any()


def test_texts_share_one_deadline(waiting: Session) -> None:
    seconds = []
    for _ in range(TRIES):
        start = time.monotonic()
        answers = waiting(["good film"] * 40, deadline_ms=1)
        seconds.append(time.monotonic() - start)
    assert min(seconds) < 2 * SECONDS + 0.1  # two batches, one segment each
    assert all(answer.deadline_hit and answer.exit_layer == 1 for answer in answers)


@pytest.mark.parametrize("deadline", [-1, float("nan"), "soon", True])
def test_a_deadline_that_is_no_time_is_refused(waiting: Session, deadline: Any) -> None:
    with pytest.raises(InputError, match="deadline_ms"):
        waiting.run(ONE, deadline_ms=deadline)


def test_close_waits_for_calls_and_later_calls_are_refused(waiting: Session) -> None:
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(waiting.run, leaving_at(2))
        time.sleep(SECONDS / 2)
        closing = pool.submit(waiting.close)
        time.sleep(SECONDS / 2)
        assert not closing.done()
        with pytest.raises(RunError, match="closed"):
            waiting.run(ONE)
        closing.result()
        assert running.done()
        assert running.result().exit_index.tolist() == [2]
    waiting.close()
    for call in (lambda: waiting.run_exits(ONE), lambda: waiting(["good"])):
        with pytest.raises(RunError, match="closed"):
            call()


# R6: batches that do not fit


@pytest.mark.parametrize("largest", [1, 2, 5])
def test_a_batch_that_does_not_fit_is_run_in_parts(waiting: Session, largest: int) -> None:
    waiting._engine.largest = largest
    leaves = [0, 2, 1, 0, 2]
    result = waiting.run(leaving_at(*leaves))
    assert result.exit_index.tolist() == leaves
    assert result.logits[:, 0].tolist() == [WORDS_BEFORE + exit_ for exit_ in leaves]


def test_a_row_that_does_not_fit_alone_is_a_resource_error(waiting: Session) -> None:
    waiting._engine.largest = 0
    with pytest.raises(ResourceError, match="segment-00"):
        waiting.run(leaving_at(0, 1, 2))
    waiting._engine.largest = 8
    assert waiting.run(leaving_at(1)).exit_index.tolist() == [1]

"""Predicted times of segments, and what a deadline makes of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effbert.runtime import Session, open_bundle
from effbert.runtime.bundle.manifest import Segment
from effbert.runtime.chain.segment_times import RESERVE, SegmentTimes
from tiny_bundle import MAX_LENGTH

SEGMENTS = 4
FIXED, RATE = 1e-3, 1e-9  # seconds of a call, and of a FLOP


@pytest.fixture
def segments() -> list[Segment]:
    return [
        Segment(f"{index}.onnx", index + 1, [], [], {}, parameters=1, flops=(0, 10_000, 10))
        for index in range(SEGMENTS)
    ]


def seconds(rows: int, length: int, slower: float = 1.0) -> float:
    """What must be left for one segment: its time, and the reserve."""
    return slower * RESERVE * (FIXED + RATE * rows * (10_000 * length + 10 * length**2))


def taught(segments: list[Segment], shapes: list[tuple[int, int]]) -> SegmentTimes:
    times = SegmentTimes(segments)
    for rows, length in shapes:
        for index in range(SEGMENTS):
            times.learn(index, index, rows, length, seconds(rows, length) / RESERVE)
    return times


def test_segments_run_one_by_one_until_their_times_are_known(segments: list[Segment]) -> None:
    times = SegmentTimes(segments)
    assert times.fitting(1, 8, 32, seconds=10.0) == 1
    assert times.fitting(1, 8, 32, seconds=0.0) == 0
    times.learn(0, 0, 8, 32, seconds(8, 32))
    assert times.fitting(1, 8, 32, seconds=10.0) == SEGMENTS - 1


@pytest.mark.parametrize("segment_times", [0.9, 1.1, 2.9, 3.1])
@pytest.mark.parametrize("rows, length", [(1, 8), (8, 32), (3, 300), (32, 128)])
def test_as_many_segments_run_as_fit(
    segments: list[Segment], rows: int, length: int, segment_times: float
) -> None:
    times = taught(segments, [(1, 8), (32, 128), (4, 64)] * 20)
    left = segment_times * seconds(rows, length)
    assert times.fitting(0, rows, length, left) == int(segment_times)


def test_times_of_several_segments_are_learned_together(segments: list[Segment]) -> None:
    times = SegmentTimes(segments)
    for shape in [(1, 8), (32, 128)] * 20:
        times.learn(0, SEGMENTS - 1, *shape, SEGMENTS * seconds(*shape) / RESERVE)
    assert times.fitting(2, 8, 32, 1.1 * seconds(8, 32)) == 1
    assert times.fitting(2, 8, 32, 0.9 * seconds(8, 32)) == 0


def test_a_segment_that_is_slower_than_its_flops_say_is_known_to_be(
    segments: list[Segment],
) -> None:
    times = SegmentTimes(segments)
    for shape in [(1, 8), (32, 128)] * 60:
        for index in range(SEGMENTS):
            slower = 2 if index == 3 else 1
            times.learn(index, index, *shape, slower * seconds(*shape) / RESERVE)
    one = seconds(8, 32)
    assert times.fitting(2, 8, 32, 1.15 * one) == 1
    assert times.fitting(3, 8, 32, 1.8 * one) == 0
    assert times.fitting(3, 8, 32, 2.2 * one) == 1


def test_a_machine_that_slows_down_is_followed(segments: list[Segment]) -> None:
    times = taught(segments, [(8, 32)] * 10)
    for _ in range(15):
        times.learn(0, SEGMENTS - 1, 8, 32, SEGMENTS * seconds(8, 32, slower=3) / RESERVE)
    assert times.fitting(0, 8, 32, 2.9 * seconds(8, 32)) == 0
    assert times.fitting(0, 8, 32, 3.5 * seconds(8, 32)) == 1


def test_one_call_that_was_interrupted_is_not_believed(segments: list[Segment]) -> None:
    times = taught(segments, [(8, 32), (1, 8)] * 20)
    times.learn(0, 0, 8, 32, 1000 * seconds(8, 32))
    assert times.fitting(0, 8, 32, 2.5 * seconds(8, 32)) >= 1


def test_the_joined_graph_runs_as_many_segments_at_once_as_fit(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session(open_bundle(bundle), "onnxruntime") as session:
        assert session.mode.joined
        calls: list[int] = []
        segments = session._chains.default._segments
        assert segments is not None
        run = segments.run

        def noted(first: int, most: int, *rest: Any) -> Any:
            calls.append(most)
            return run(first, most, *rest)

        monkeypatch.setattr(segments, "run", noted)
        ids = {"input_ids": np.full((2, MAX_LENGTH), 5)}
        session.run(ids, {"threshold": 0.0}, deadline_ms=10_000)
        session.run(ids, {"threshold": 0.0}, deadline_ms=10_000)
        assert calls == [1, 2, 3]
        result = session.run(ids, {"threshold": 0.0}, deadline_ms=0)
        assert calls[3:] == [1]
        assert result.deadline_hit.all()

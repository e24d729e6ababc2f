"""The chain of segments: what comes out is what a plain loop over single rows computes."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effbert.runtime import Session
from effbert.runtime.chain.one_by_one import OneByOne
from effbert.runtime.engines.row_independence import DIFFERENCES, EXACT
from row_by_row import RowByRow
from separate_segments import keep_apart
from task_bundles import build_token_bundle, report_layers_of_tokens
from tiny_bundle import EXITS, MAX_LENGTH, VOCABULARY

KINDS = ["entropy", "patience", "shared", "padding", "tokens", "questions"]


@pytest.fixture(scope="module")
def loops(bundles: dict[str, Path]) -> dict[str, RowByRow]:
    return {name: RowByRow(bundles[name]) for name in KINDS}


def padded(rows: list[list[int]], extra: int = 0) -> dict[str, np.ndarray]:
    """Inputs with every row filled up with zeros to the longest and `extra` more columns."""
    length = max(map(len, rows)) + extra
    ids = np.zeros((len(rows), length), np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def random_rows(generator: np.random.Generator, count: int) -> list[list[int]]:
    lengths = generator.integers(2, MAX_LENGTH - 2, count)
    return [generator.integers(0, len(VOCABULARY), length).tolist() for length in lengths]


def random_knobs(generator: np.random.Generator, kind: str) -> dict[str, Any]:
    if kind == "patience":
        return {"patience": int(generator.integers(0, 4))}
    top = 2.0 if kind in ("tokens", "questions") else 1.1
    return {"threshold": generator.uniform(0, top, EXITS).tolist()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 16), extra=st.integers(0, 2))
def test_every_row_gets_the_answer_of_the_plain_loop(
    engine_sessions: dict[str, Session],
    loops: dict[str, RowByRow],
    kind: str,
    seed: int,
    count: int,
    extra: int,
) -> None:
    generator = np.random.default_rng(seed)
    rows, knobs = random_rows(generator, count), random_knobs(generator, kind)
    session = engine_sessions[kind]
    result = session.run(padded(rows, extra), knobs=knobs)
    layers = [item.layer for item in session.exits]
    for place, row in enumerate(rows):
        index, signal, outputs = loops[kind](row, knobs)
        threshold = knobs.get("threshold", [np.inf] * EXITS)[index]
        if abs(signal - threshold) <= 1e-5:
            continue
        assert result.exit_index[place] == index
        assert result.exit_layer[place] == layers[index]
        assert result.signal[place] == pytest.approx(signal, abs=2e-5)
        for name, expected in outputs.items():
            found = result.outputs[name][place]
            if kind in ("tokens", "questions"):
                found = found[: len(row)]
            np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_mask_with_holes_is_passed_on_as_it_is(sessions: dict[str, Session]) -> None:
    rows = [[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]]
    inputs = padded(rows)
    inputs["attention_mask"][0, :2] = 0
    inputs["attention_mask"][1, 2:4] = 0
    both = sessions["entropy"].run(inputs, knobs={"threshold": 0.5})
    for place in range(2):
        part = {name: value[place : place + 1] for name, value in inputs.items()}
        alone = sessions["entropy"].run(part, knobs={"threshold": 0.5})
        assert alone.exit_index[0] == both.exit_index[place]
        np.testing.assert_allclose(alone.logits[0], both.logits[place], atol=1e-5)


class Recorder:
    """Stands in for a loaded segment and notes the shapes it is run with."""

    def __init__(self, runnable: Any, shapes: list[tuple[int, ...]]) -> None:
        self._runnable = runnable
        self._shapes = shapes

    def run(self, feeds: dict[str, np.ndarray], options: Any = None) -> dict[str, np.ndarray]:
        self._shapes.append(feeds["attention_mask"].shape)
        return self._runnable.run(feeds, options)


@pytest.fixture
def recorded(
    bundles: dict[str, Path], request: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Session, list[tuple[int, ...]]]]:
    keep_apart(monkeypatch)  # so that every run of a segment is seen
    shapes: list[tuple[int, ...]] = []
    with Session(bundles[request.param], threads=1) as session:
        record(session, shapes)
        yield session, shapes


def record(session: Session, shapes: list[tuple[int, ...]]) -> None:
    segments = session._chains.default._segments
    assert isinstance(segments, OneByOne)
    for step in segments._steps:
        step.runnable = Recorder(step.runnable, shapes)


LONG_AND_SHORT = padded([[2, *range(5, 25), 3], [2, 8, 3], [2, 9, 10, 3]], extra=4)


@pytest.mark.parametrize("recorded", ["entropy"], indirect=True)
def test_rows_that_left_and_their_padding_are_not_computed_again(
    recorded: tuple[Session, list[tuple[int, ...]]],
) -> None:
    session, shapes = recorded
    signals = session.run(LONG_AND_SHORT, knobs={"threshold": 2.0}).signal
    first = int(np.argmin(signals))
    threshold = float(np.sort(signals)[:2].mean())
    shapes.clear()
    result = session.run(LONG_AND_SHORT, knobs={"threshold": [threshold, 0, 0]})
    assert result.exit_index.tolist() == [0 if row == first else 2 for row in range(3)]
    lengths = LONG_AND_SHORT["attention_mask"].sum(axis=1)
    left = max(length for row, length in enumerate(lengths) if row != first)
    assert shapes == [(3, 22), (2, left), (2, left)]


@pytest.mark.parametrize("recorded", ["entropy"], indirect=True)
def test_segments_after_the_last_row_left_are_not_run(
    recorded: tuple[Session, list[tuple[int, ...]]],
) -> None:
    session, shapes = recorded
    result = session.run(LONG_AND_SHORT, knobs={"threshold": 2.0})
    assert shapes == [(3, 22)]
    assert result.exit_index.tolist() == [0, 0, 0]


@pytest.mark.parametrize("recorded", ["tokens"], indirect=True)
def test_outputs_for_tokens_keep_the_shape_of_the_inputs(
    recorded: tuple[Session, list[tuple[int, ...]]],
) -> None:
    session, shapes = recorded
    signals = session.run(LONG_AND_SHORT, knobs={"threshold": 2.0})
    assert signals.logits.shape == (3, 26, 3)
    assert shapes[0] == (3, 26)


@pytest.mark.parametrize("recorded", ["padding"], indirect=True)
def test_a_model_that_sees_padding_never_gets_any(
    recorded: tuple[Session, list[tuple[int, ...]]],
) -> None:
    session, shapes = recorded
    rows = [[2, 8, 3], [2, 9, 10, 3], [2, 11, 3]]
    session.run(padded(rows, extra=3))
    assert sorted(set(shapes)) == [(1, 4), (2, 3)]


@pytest.mark.parametrize("recorded", ["entropy"], indirect=True)
def test_a_large_batch_is_split(bundles: dict[str, Path], recorded: Any) -> None:
    _, shapes = recorded
    inputs = padded(random_rows(np.random.default_rng(0), 11))
    length = inputs["input_ids"].shape[1]
    with Session(bundles["entropy"], max_batch_tokens=4 * length) as session:
        record(session, shapes)
        split = session.run(inputs)
    assert {rows for rows, _ in shapes} == {4, 3}
    whole = recorded[0].run(inputs)
    np.testing.assert_allclose(split.logits, whole.logits, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_exit_answers_when_nothing_may_stop(sessions: dict[str, Session], kind: str) -> None:
    rows = random_rows(np.random.default_rng(3), 5)
    inputs = padded(rows)
    session = sessions[kind]
    every = session.run_exits(inputs)
    full = session.run(inputs)
    assert set(every) == set(full.outputs)
    for name, value in every.items():
        assert value.shape == (EXITS, *full.outputs[name].shape)
        assert value.dtype == np.float32
        np.testing.assert_allclose(value[-1], full.outputs[name], atol=1e-5)
    assert (full.exit_index == EXITS - 1).all()


@pytest.mark.parametrize("kind", ["entropy", "patience", "shared", "tokens"])
def test_a_row_depends_on_the_others_no_more_than_stated(
    engine_sessions: dict[str, Session],
    engine: str,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    generator = np.random.default_rng(7)
    session, rows = engine_sessions[kind], random_rows(generator, 16)
    knobs = {"patience": 1} if kind == "patience" else {"threshold": 0.6}
    alone = [session.run(padded([row]), knobs=knobs) for row in rows]
    order = generator.permutation(16)
    arrangements = {
        "together": (range(16), session.run(padded(rows), knobs=knobs)),
        "padded more": (range(16), session.run(padded(rows, 2), knobs=knobs)),
        "permuted": (order, session.run(padded([rows[i] for i in order]), knobs=knobs)),
        "split": (range(8), session.run(padded(rows[:8]), knobs=knobs)),
    }
    worst, largest = 0.0, max(float(np.abs(result.logits).max()) for result in alone)
    for places, result in arrangements.values():
        for place, row in enumerate(places):
            expected = alone[row]
            if abs(expected.signal[0] - 0.6) > 1e-5:
                assert result.exit_index[place] == expected.exit_index[0]
            found = result.logits[place]
            found = found[: len(rows[row])] if kind == "tokens" else found
            worst = max(worst, float(np.abs(found - expected.logits[0]).max()))
    with capsys.disabled():
        sys.stdout.write(f"\n{engine}, {kind}: a row alone and among others: {worst:.1e} apart\n")
    assert worst <= max(EXACT, DIFFERENCES[engine, "fp32"]) * largest


def test_tokens_that_exit_on_their_own_report_a_layer_each(tmp_path: Path) -> None:
    bundle = build_token_bundle(tmp_path / "bundle")
    report_layers_of_tokens(bundle)
    rows = [[2, 5, 3], [2, 5, 6, 7, 8, 3]]
    with Session(bundle) as session:
        signals = session.run(padded(rows), knobs={"threshold": 2.0}).signal
        knobs = {"threshold": [float(signals.mean()), 0, 0]}
        result = session.run(padded(rows, 1), knobs=knobs)
        assert result.exit_layer.dtype == np.int64
        layers = result.exit_index + 1
        assert sorted(layers.tolist()) == [1, 3]
        for row, layer, found in zip(rows, layers, result.exit_layer, strict=True):
            assert found.tolist() == [10 * layer] * len(row) + [0] * (7 - len(row))
        assert session.run({"input_ids": np.zeros((0, 4), int)}).exit_layer.shape == (0, 4)
        assert [answer.exit_layer for answer in session(["good", "good film"])] == [30, 30]


def test_the_answers_of_an_empty_batch_are_empty(sessions: dict[str, Session]) -> None:
    for kind, shape in {"entropy": (0, 3), "tokens": (0, 5, 3), "padding": (0, 3)}.items():
        empty = {"input_ids": np.zeros((0, 5), np.int64)}
        result = sessions[kind].run(empty)
        assert result.logits.shape == shape
        assert result.logits.dtype == np.float32
        assert result.exit_index.shape == result.exit_layer.shape == result.signal.shape == (0,)
        assert sessions[kind].run_exits(empty)["logits"].shape == (EXITS, *shape)


def test_results_have_the_documented_types(sessions: dict[str, Session]) -> None:
    result = sessions["entropy"].run({"input_ids": [[2, 5, 3]]})
    assert result.exit_index.dtype == result.exit_layer.dtype == np.int64
    assert result.signal.dtype == result.logits.dtype == np.float32
    assert result.deadline_hit.dtype == result.truncated.dtype == bool


def test_asking_for_logits_that_are_not_there_names_the_outputs(
    sessions: dict[str, Session],
) -> None:
    result = sessions["questions"].run({"input_ids": [[2, 5, 3]]})
    with pytest.raises(ValueError, match="start_logits"):
        _ = result.logits

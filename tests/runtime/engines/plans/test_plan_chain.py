"""The chain of plans on a numpy device: what crosses, who owns which memory, what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plan_chains
from effbert.runtime import (
    Bundle,
    Cancel,
    CancelledError,
    EngineError,
    InputError,
    NumericalError,
    ResourceError,
    Session,
)
from effbert.runtime.chain.knobs import KnobValue
from effbert.runtime.engines.plans import answers
from effbert.runtime.engines.plans.lanes import Lane
from numpy_device import NumpyContext
from plan_chains import DEEP, device_of, lanes_of, rows, same
from small_bundles import SMALL, some_inputs
from tiny_bundle import HIDDEN


def carries(lane: Lane) -> list[range]:
    """Where the buffers of carries are."""
    buffers = [*lane.carries._free, *lane.carries._used]
    return [range(buffer.address, buffer.address + buffer.size) for buffer in buffers]


# What crosses


def test_no_carry_ever_crosses_to_the_host_or_back(session: Session) -> None:
    device, inputs = device_of(session), rows(16)
    for patience in range(4):
        session.run(inputs, {"patience": patience})
    [lane] = lanes_of(session)
    regions = carries(lane)
    assert max(map(len, regions)) == 16 * 20 * HIDDEN * 4  # hidden states of all rows
    states = [region for region in regions if len(region) < 1000]
    for address, size in (*device.uploads, *device.downloads):
        assert not any(
            region.start < address + size and address < region.stop for region in regions
        )
    assert states, "those of the policy are carries too"


def test_a_segment_costs_one_copy_there_and_one_back(session: Session) -> None:
    device = device_of(session)
    session.run(rows(3))
    assert len(device.uploads) == len(device.downloads) == DEEP
    # ids, types, mask, states, knob and rows, each aligned.
    assert max(size for _, size in device.uploads) < 4096
    assert max(size for _, size in device.downloads) < 1024


def test_large_answers_stay_on_the_device_until_rows_leave(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "FEW_BYTES", 0)
    device = device_of(session)
    session.run(rows(3))
    flags = [size for _, size in device.downloads[:-1]]
    assert flags == [3] * DEEP  # one a row
    assert device.downloads[-1][1] > 3


def test_two_buffers_take_turns(deep: Path, plans: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    launch = NumpyContext.launch

    def noted(self: NumpyContext, outputs: dict[str, int], stream: int) -> None:
        written.append(outputs.get("hidden_out", 0))
        launch(self, outputs, stream)

    monkeypatch.setattr(NumpyContext, "launch", noted)
    with Session(deep, plans) as session:
        for _ in range(3):
            session.run(rows(4))
    per_call = [written[k : k + DEEP - 1] for k in range(0, 3 * DEEP, DEEP)]
    for call in per_call:
        assert len(set(call)) == 2
        assert all(first != then for first, then in pairwise(call))


def test_buffers_grow_with_the_calls_and_there_are_never_more(session: Session) -> None:
    counts = set()
    for count in (1, 2, 5, 9, 16, 3):
        session.run(rows(count))
        [lane] = lanes_of(session)
        counts.add(lane.carries.count)
    assert counts == {6}  # two of hidden states, and two of each state


# The same answers


def test_answers_are_those_of_onnxruntime(deep: Path, session: Session) -> None:
    with Session(deep, "onnxruntime") as usual:
        for seed in range(4):
            for patience in range(4):
                inputs = rows(9, seed=seed)
                found = session.run(inputs, {"patience": patience})
                assert same(found, usual.run(inputs, {"patience": patience}))
        every, wanted = session.run_exits(inputs), usual.run_exits(inputs)
        np.testing.assert_array_equal(every["logits"], wanted["logits"])
    assert "chained on the device" in str(session.mode)


NOT_ON_ONNXRUNTIME = ("lengths", "bf16")  # the first is no slow test, the second has no kernels
NAMES = [
    "lengths",
    *(pytest.param(n, marks=pytest.mark.slow) for n in SMALL if n not in NOT_ON_ONNXRUNTIME),
]
THRESHOLDS: dict[str, list[KnobValue]] = {"float32": [0.69, 5.0], "int64": [1, 2]}


@pytest.mark.parametrize("name", NAMES)
def test_exported_bundles_answer_as_with_onnxruntime(
    name: str, small_bundle: Callable[[str], Bundle], plans: str
) -> None:
    bundle = small_bundle(name)
    knobs: list[dict[str, KnobValue]] = [{}]
    for knob in bundle.manifest.knobs:
        if knob.name == "threshold":
            knobs += [{"threshold": value} for value in THRESHOLDS[knob.dtype]]
        elif knob.name == "lengths":
            knobs += [
                {"lengths": [20, 11, 3][: knob.count]},
                {"lengths": [0.9, 0.5, 0.3][: knob.count]},
            ]
    with Session(bundle, "onnxruntime", threads=1) as usual, Session(bundle, plans) as session:
        for values in knobs:
            inputs = some_inputs(bundle)
            expected, found = usual.run(inputs, values), session.run(inputs, values)
            assert found.exit_index.tolist() == expected.exit_index.tolist()
            for output, wanted in expected.outputs.items():
                np.testing.assert_allclose(found.outputs[output], wanted, atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name, close", [("albert", 2e-2), ("int8", 0.15), ("int4-weight", 0.15)])
def test_in_16_bits_carries_take_half_the_memory_and_answers_are_close(
    name: str,
    close: float,  # integers of activations may be one level off
    small_bundle: Callable[[str], Bundle],
    plans: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle, largest, answered = small_bundle(name), {}, {}
    inputs = some_inputs(bundle)
    for compute in ("fp32", "fp16"):
        monkeypatch.setattr(plan_chains.NumpyPlans, "compute", compute)
        with Session(bundle, plans) as session:
            answered[compute] = session.run_exits(inputs)
            [lane] = lanes_of(session)
            largest[compute] = max(map(len, carries(lane)))
    assert largest["fp32"] == 2 * largest["fp16"]
    for output, wanted in answered["fp32"].items():
        np.testing.assert_allclose(answered["fp16"][output], wanted, atol=close)


def test_where_tokens_are_dropped_the_extent_is_rounded_up(
    small_bundle: Callable[[str], Bundle], plans: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    prepare = NumpyContext.prepare

    def noted(self: NumpyContext, profile: int, feeds: Any, values: Any, stream: int) -> Any:
        kept.extend(map(int, values.values()))
        return prepare(self, profile, feeds, values, stream)

    monkeypatch.setattr(NumpyContext, "prepare", noted)
    bundle = small_bundle("lengths")
    with Session(bundle, plans) as session:
        session.run(some_inputs(bundle), {"lengths": [20, 11, 3]})
    assert kept[0] == 30  # 20 is 32 rounded up, and there are 30
    assert kept == sorted(kept, reverse=True)
    assert set(kept) <= {16, 30}


# Profiles


def with_profiles(monkeypatch: pytest.MonkeyPatch, *largest: dict[str, int]) -> None:
    """Let every plan have these profiles."""

    def several(prepared: Any, profiles: Any = None) -> Any:
        made = tuple(plan_chains.profile(prepared, sizes) for sizes in largest)
        return signature(prepared, made)

    signature = plan_chains.signature
    monkeypatch.setattr(plan_chains, "signature", several)


SMALL_ONE = {"earlier": 64, "batch": 4, "sequence": 8}
LARGE_ONE = {"earlier": 64, "batch": 2, "sequence": 32}


def test_the_profile_that_wastes_least_is_chosen(
    deep: Path, plans: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_profiles(monkeypatch, LARGE_ONE, SMALL_ONE)
    with Session(deep, plans) as session:
        for inputs, profile in ((rows(1, 6), 1), (rows(2, 8), 1), (rows(2, 9), 0)):
            inputs["attention_mask"][:] = 1
            session._engine.plans[0].profiles.clear()
            session.run(inputs)
            assert session._engine.plans[0].profiles == [profile]


def test_more_rows_than_a_profile_holds_at_their_length_are_split(
    deep: Path, plans: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_profiles(monkeypatch, LARGE_ONE, SMALL_ONE)
    with Session(deep, plans) as session, Session(deep, "onnxruntime") as usual:
        assert session._engine.limits.steps == ((8, 4), (32, 2))
        for inputs in (rows(9, 8), rows(9, 20)):
            found, expected = session.run(inputs), usual.run(inputs)
            assert found.exit_index.tolist() == expected.exit_index.tolist()
            np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)


def test_rows_that_no_profile_holds_are_refused_in_one_sentence(
    deep: Path, plans: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_profiles(monkeypatch, {"earlier": 64, "batch": 4, "sequence": 8})
    with Session(deep, plans) as session, pytest.raises(InputError, match="prepared for up to 8"):
        session.run(rows(1, 9))
    with Session(deep, plans) as session:
        chain = session._chains.default
        every = {**rows(5, 8), "token_type_ids": np.zeros((5, 8), np.int64)}
        with pytest.raises(
            InputError,
            match=r"^segment-00.onnx was compiled for input_ids of 1 x 1 to 4 x 8, this call has "
            r"5 x 8; compile with a --profile that holds it\.$",
        ):
            list(chain._every_step(every, np.arange(5), session._knobs.merged(None)))
        assert session.run(rows(3, 8), {"patience": 0}).exit_index.tolist() == [0] * 3


# What goes wrong


def test_an_error_in_the_middle_gives_the_memory_back(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = session.run(rows(4))
    [lane] = lanes_of(session)
    before = len(device_of(session).blocks)
    launch, launched = NumpyContext.launch, []

    def failing(self: NumpyContext, outputs: dict[str, int], stream: int) -> None:
        launched.append(stream)
        if len(launched) == 3:
            raise EngineError("the launch failed")
        launch(self, outputs, stream)

    monkeypatch.setattr(NumpyContext, "launch", failing)
    with pytest.raises(EngineError, match="the launch failed") as caught:
        session.run(rows(4))
    assert lanes_of(session) == [lane], f"also while {caught} is kept"
    assert not lane.carries._used
    assert len(device_of(session).blocks) == before
    assert same(session.run(rows(4)), expected)


def test_work_that_fails_on_the_device_is_the_error_of_its_call(session: Session) -> None:
    expected = session.run(rows(4))
    device_of(session).fails = EngineError("CUDA could not run on the GPU: illegal address.")
    with pytest.raises(EngineError, match="illegal address"):
        session.run(rows(4))
    assert same(session.run(rows(4)), expected)


def test_answers_that_are_not_finite_name_their_rows(
    deep: Path, plans: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_chains.NumpyPlans, "lanes", 1)  # the second look needs one too
    compute = NumpyContext.compute

    def broken(self: NumpyContext) -> dict[str, np.ndarray]:
        found = compute(self)
        found["logits"][1:2] = np.nan
        return found

    with Session(deep, plans) as session:
        expected = session.run(rows(4))
        with monkeypatch.context() as patch:
            patch.setattr(NumpyContext, "compute", broken)
            with pytest.raises(NumericalError, match="not finite at exit 0") as caught:
                session.run(rows(4))
        assert caught.value.rows == [1]
        assert same(session.run(rows(4)), expected)


def test_a_batch_that_the_device_has_no_memory_for_is_halved(
    deep: Path, plans: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session(deep, plans) as session:
        expected = session.run(rows(32))
        device = device_of(session)
        lanes_of(session)[0].carries.close()
        used = sum(block.nbytes for block in device.blocks.values())
        device.memory = used + 20_000  # hidden states of 32 rows of 20 tokens take 20,480 bytes
        halves = session.run(rows(32))
        assert halves.exit_index.tolist() == expected.exit_index.tolist()
        np.testing.assert_allclose(halves.logits, expected.logits, atol=1e-6)
        device.memory = used
        lanes_of(session)[0].carries.close()
        with pytest.raises(ResourceError, match="left on the device"):
            session.run(rows(1))


def test_a_deadline_and_a_cancel_act_between_segments(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = session.run(rows(3), {"patience": 3}, deadline_ms=0)
    assert result.exit_index.tolist() == [0, 0, 0]
    assert result.deadline_hit.all()
    cancel, launched = Cancel(), []
    launch = NumpyContext.launch

    def cancelling(self: NumpyContext, *others: Any) -> None:
        launched.append(self)
        if len(launched) == 2:
            cancel.cancel()
        launch(self, *others)

    monkeypatch.setattr(NumpyContext, "launch", cancelling)
    with pytest.raises(CancelledError):
        session.run(rows(3), {"patience": 3}, cancel=cancel)
    assert len(launched) == 2
    assert len(lanes_of(session)) == 1

"""Engines for onnxruntime's providers on GPUs, with the CPU in the place of the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import bound_engine
from effbert.runtime import (
    Bundle,
    Cancel,
    CancelledError,
    EngineError,
    InputError,
    MissingDependencyError,
    Session,
)
from effbert.runtime.engines.onnxruntime import device_chain, on_gpu
from effbert.runtime.engines.onnxruntime.device_chain import Fetched, OnGpu
from effbert.runtime.engines.table import ENGINES, installed_engines
from small_bundles import some_inputs
from tiny_bundle import build_tiny_bundle

NAMES = ("onnxruntime-cuda", "onnxruntime-tensorrt")
IDS = np.array([[2, 9, 10, 11, 12, 3], [2, 30, 31, 3, 0, 0], [2, 8, 3, 0, 0, 0]])
INPUTS = {"input_ids": IDS, "attention_mask": (IDS > 0).astype(np.int64)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle whose policy carries states; not to be changed."""
    return build_tiny_bundle(tmp_path_factory.mktemp("bound") / "bundle", policy="patience")


@pytest.fixture
def session(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    bound_engine.register(monkeypatch)
    with Session(bundle, bound_engine.NAME) as found:
        yield found


def test_answers_are_those_of_the_segments_on_the_cpu(bundle: Path, session: Session) -> None:
    with Session(bundle, "onnxruntime") as usual:
        for patience in range(4):
            expected = usual.run(INPUTS, {"patience": patience})
            found = session.run(INPUTS, {"patience": patience})
            np.testing.assert_array_equal(found.exit_index, expected.exit_index)
            np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)
        every = session.run_exits(INPUTS)["logits"]
        np.testing.assert_allclose(every, usual.run_exits(INPUTS)["logits"], atol=1e-6)
    assert "chains the segments on cpu:0" in str(session.mode)


def test_no_carry_becomes_an_array_of_the_host(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    get = Fetched.__getitem__

    def noted(self: Fetched, name: str) -> np.ndarray:
        fetched.append(name)
        return get(self, name)

    monkeypatch.setattr(Fetched, "__getitem__", noted)
    session.run(INPUTS, {"patience": 1})
    assert set(fetched) == {"exit", "signal", "logits"}


def test_rows_are_taken_once_though_several_segments_read_them(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, ...]] = []
    call = device_chain.Take.__call__

    def noted(self: Any, value: Any, rows: np.ndarray, columns: int | None) -> Any:
        taken.append((len(rows), columns or 0))
        return call(self, value, rows, columns)

    monkeypatch.setattr(device_chain.Take, "__call__", noted)
    result = session.run(INPUTS, {"patience": 1})
    left = int((result.exit_index > result.exit_index.min()).sum())
    assert 0 < left < 3, "some rows leave first"
    assert len(taken) == 3  # hidden states and two states of the policy
    assert {rows for rows, _ in taken} == {left}


def test_choosing_rows_composes(session: Session) -> None:
    value = onnxruntime.OrtValue.ortvalue_from_numpy(
        np.arange(24.0, dtype=np.float32).reshape(4, 6)
    )
    carry = OnGpu(value, (4, 6), 1)
    some = carry.narrowed(np.array([True, False, True, True]), 4).narrowed(slice(1, None), None)
    assert some.shape == (2, 4)
    takes = session._chains.default._segments._steps[0]._takes
    expected = value.numpy()[[2, 3], :4]
    np.testing.assert_array_equal(some.taken(takes).numpy(), expected)
    np.testing.assert_array_equal(some.taken(takes).numpy(), expected)


def test_threads_get_the_answers_of_one(session: Session) -> None:
    expected = session.run(INPUTS, {"patience": 2})
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: session.run(INPUTS, {"patience": 2}), range(32)):
            np.testing.assert_array_equal(found.logits, expected.logits)


def test_a_cancelled_call_stops(session: Session) -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(CancelledError):
        session.run(INPUTS, cancel=cancel)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exits", "lengths", "int8", "albert"])
def test_exported_bundles_answer_the_same(
    name: str, small_bundle: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_engine.register(monkeypatch)
    monkeypatch.setitem(bound_engine.DIFFERENCES, (bound_engine.NAME, "int8"), 0.0)
    bundle = small_bundle(name)
    inputs = some_inputs(bundle)
    with Session(bundle, "onnxruntime") as usual, Session(bundle, bound_engine.NAME) as other:
        expected, found = usual.run_exits(inputs), other.run_exits(inputs)
        for output, wanted in expected.items():
            np.testing.assert_allclose(found[output], wanted, atol=5e-3)


# Providers that are not there


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_that_this_onnxruntime_does_not_have_is_an_error(
    name: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(
        MissingDependencyError,
        match=rf"Engine '{name}' needs onnxruntime's \w+, and this onnxruntime has only "
        r'CPUExecutionProvider; replace it: .* pip install "effbert\[gpu\]"\.$',
    ):
        Session(bundle, name)
    assert ENGINES[name].on_request
    assert name not in installed_engines()


def test_a_provider_that_is_absent_after_opening_is_an_error_and_no_run_on_the_cpu(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    opened: list[Any] = []
    plain = onnxruntime.InferenceSession

    def without(model: bytes, options: Any, providers: list[Any], **others: Any) -> Any:
        opened.append(providers)
        return plain(model, options, providers=["CPUExecutionProvider"], **others)

    monkeypatch.setattr(on_gpu, "InferenceSession", without)
    with pytest.raises(
        EngineError,
        match=r"^onnxruntime opened segment-00\.onnx with CPUExecutionProvider, not with "
        r"TensorrtExecutionProvider: a library that it needs, or the GPU, is missing",
    ):
        Session(bundle, "onnxruntime-tensorrt", device="cuda:2")
    assert opened[0] == [
        ("TensorrtExecutionProvider", {"device_id": "2"}),
        ("CUDAExecutionProvider", {"device_id": "2", "use_tf32": "0"}),
    ]


def test_other_devices_are_refused(bundle: Path) -> None:
    with pytest.raises(InputError, match="got device 'cpu', expected 'cuda' or 'cuda:N'"):
        Session(bundle, "onnxruntime-cuda", device="cpu")


@pytest.mark.requires_gpu
@pytest.mark.filterwarnings("ignore::effbert.runtime.errors.EffbertWarning")
@pytest.mark.parametrize("name", NAMES)
def test_on_a_gpu_answers_are_those_of_the_cpu(name: str, bundle: Path) -> None:
    wanted = ENGINES[name]
    module, _, cls = wanted.target.partition(":")
    provider = getattr(__import__(module, fromlist=[cls]), cls).providers[0]
    if provider not in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has no {provider}")
    with Session(bundle, "onnxruntime") as usual, Session(bundle, name) as other:
        for patience in range(4):
            expected = usual.run(INPUTS, {"patience": patience})
            found = other.run(INPUTS, {"patience": patience})
            np.testing.assert_array_equal(found.exit_index, expected.exit_index)
            np.testing.assert_allclose(found.logits, expected.logits, atol=1e-3)

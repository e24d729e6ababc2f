"""`engine="native"`: a session like any other."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle_edits import edit_segment
from effbert.runtime import Cancel, Session
from effbert.runtime.engines.native import native_library as library
from effbert.runtime.errors import (
    CancelledError,
    InputError,
    IntegrityError,
    MissingDependencyError,
    NumericalError,
    RunError,
)
from native_pair import native_library, random_inputs
from tiny_bundle import build_tiny_bundle

TEXTS = ["a very good film", "the plot was dull", "i hated it", "slow and long"]


@pytest.fixture(autouse=True)
def built() -> None:
    native_library()


def test_predictions_are_those_of_onnxruntime(bundles: dict[str, Path]) -> None:
    for kind in ("entropy", "tokens"):
        with Session(bundles[kind]) as usual, Session(bundles[kind], "native") as native:
            for threshold in (0.3, 0.8, 1.0):
                knobs = {"threshold": threshold}
                found = [answer.to_dict() for answer in native(TEXTS, knobs)]
                assert found == [answer.to_dict() for answer in usual(TEXTS, knobs)]


def test_results_and_all_exits_are_those_of_onnxruntime(bundles: dict[str, Path]) -> None:
    with (
        Session(bundles["patience"], max_batch_tokens=30) as usual,
        Session(bundles["patience"], "native", max_batch_tokens=30) as native,
    ):
        inputs = random_inputs(usual.bundle.manifest, 9, 12)
        for patience in (0, 1, 2):
            expected, found = (s.run(inputs, {"patience": patience}) for s in (usual, native))
            assert found.logits.tobytes() == expected.logits.tobytes()
            assert found.exit_layer.tolist() == expected.exit_layer.tolist()
        expected_exits, found_exits = usual.run_exits(inputs), native.run_exits(inputs)
        assert found_exits["logits"].tobytes() == expected_exits["logits"].tobytes()
        assert found_exits.signal.tobytes() == expected_exits.signal.tobytes()


def test_a_deadline_is_said_of_the_rows_that_it_stopped(bundles: dict[str, Path]) -> None:
    with Session(bundles["entropy"], "native") as session:
        result = session.run({"input_ids": [[2, 7, 3]]}, {"threshold": 0}, deadline_ms=0)
        assert result.deadline_hit.tolist() == [True]
        assert result.exit_index.tolist() == [0]
        assert not session.run({"input_ids": [[2, 7, 3]]}, {"threshold": 0}).deadline_hit.any()


def test_a_call_is_cancelled_before_and_while_it_runs(bundles: dict[str, Path]) -> None:
    with Session(bundles["entropy"], "native", max_batch_tokens=1) as session:
        cancel = Cancel()
        many = np.full((200_000, 8), 7)
        timer = threading.Timer(0.1, cancel.cancel)
        timer.start()
        start = time.monotonic()
        with pytest.raises(CancelledError):
            session.run({"input_ids": many}, cancel=cancel)
        assert time.monotonic() - start < 5
        with pytest.raises(CancelledError):
            session.run({"input_ids": [[2, 7, 3]]}, cancel=cancel)
        assert session.run({"input_ids": [[2, 7, 3]]}).logits.shape == (1, 3)


def test_rows_that_are_not_finite_are_named(bundle: Path) -> None:
    def poison(model: Any) -> None:
        [words] = [w for w in model.graph.initializer if w.name == "word_embeddings"]
        values = np.frombuffer(words.raw_data, np.float32).copy().reshape(-1, 8)
        values[9] = np.nan
        words.raw_data = values.tobytes()

    edit_segment(bundle, poison)
    inputs = {"input_ids": np.array([[2, 7, 3], [2, 9, 3], [2, 8, 3], [2, 9, 9]])}
    with (
        Session(bundle, max_batch_tokens=7) as usual,
        Session(bundle, "native", max_batch_tokens=7) as native,
    ):
        for call in ("run", "run_exits"):
            errors = []
            for session in (usual, native):
                with pytest.raises(NumericalError) as caught:
                    getattr(session, call)(inputs)
                errors.append((caught.value.rows, str(caught.value)))
            assert errors[0] == errors[1]


@pytest.mark.parametrize("engine", ["onnxruntime", "native"])
def test_rows_that_are_not_finite_are_named_also_after_others_left(
    tmp_path: Path, engine: str
) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")

    def poison(model: Any) -> None:
        [bias] = [w for w in model.graph.initializer if w.name == "bias"]
        bias.raw_data = np.full(3, np.nan, np.float32).tobytes()

    edit_segment(bundle, poison, "segment-02.onnx")
    inputs = {"input_ids": np.random.default_rng(0).integers(5, 40, (7, 6))}
    with Session(bundle, engine) as session:
        assert {*session.run(inputs, {"threshold": 0.8}).exit_index.tolist()} == {0, 1}
        with pytest.raises(NumericalError, match=r"logits that are not finite at exit 2"):
            session.run(inputs, {"threshold": 0.1})


def test_a_closed_session_says_so(bundles: dict[str, Path]) -> None:
    session = Session(bundles["entropy"], "native")
    session.close()
    session.close()
    with pytest.raises(RunError, match="closed"):
        session.run({"input_ids": [[2, 7, 3]]})


def test_a_damaged_segment_is_refused(bundle: Path) -> None:
    file = bundle / "segment-01.onnx"
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises((IntegrityError, Exception), match=r"segment-01\.onnx is damaged"):
        Session(bundle, "native")


def test_a_device_that_is_none_is_refused(bundles: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="got 'tpu', expected 'cpu', 'cuda' or 'cuda:N'"):
        Session(bundles["entropy"], "native", device="tpu")


@pytest.mark.requires_gpu
def test_the_cuda_provider_answers_like_the_cpu(bundles: dict[str, Path]) -> None:
    with (
        Session(bundles["entropy"]) as usual,
        Session(bundles["entropy"], "native", device="cuda:0", dependent_rows=True) as native,
    ):
        inputs = random_inputs(usual.bundle.manifest, 9, 12)
        expected, found = usual.run_exits(inputs)["logits"], native.run_exits(inputs)["logits"]
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def test_without_the_library_the_error_says_how_to_get_it(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.load_library.cache_clear()
    monkeypatch.setattr(library, "_in_package", lambda: None)
    monkeypatch.setattr(library, "_built", lambda: None)
    monkeypatch.delenv(library.VARIABLE, raising=False)
    try:
        with pytest.raises(MissingDependencyError, match="pip install effbert-native"):
            Session(bundles["entropy"], "native")
        monkeypatch.setenv(library.VARIABLE, str(tmp_path / "nothing.so"))
        with pytest.raises(MissingDependencyError, match=r"cannot load .*nothing\.so"):
            Session(bundles["entropy"], "native")
    finally:
        library.load_library.cache_clear()

"""The OpenVINO engine: what it hands over, what it refuses, and how it shares the process."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bundle_edits import edit_segment
from effbert.runtime import Cancel, Session
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.engines.protocol import Engine, EngineSettings
from effbert.runtime.engines.table import open_engine
from effbert.runtime.errors import (
    CancelledError,
    EngineError,
    MissingDependencyError,
    NumericalError,
    UnsafeContentError,
)
from tiny_bundle import MAX_LENGTH, VOCABULARY, build_tiny_bundle

SEGMENT = "segment-00.onnx"
LARGE = {"input_ids": np.full((500, MAX_LENGTH), 5)}  # one part of a batch, 0.5 MB of hidden states


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with `weights.bin` that may be changed."""
    return build_tiny_bundle(tmp_path / "bundle", shared_weights=True)


@pytest.fixture
def engine_() -> Engine:
    return open_engine("openvino", EngineSettings(threads=1))


def feeds(rows: int = 1) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(rows).integers(5, len(VOCABULARY), (rows, MAX_LENGTH))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
        "threshold": np.array(0.5, np.float32),
    }


def load(engine: Engine, bundle: Path) -> Any:
    read = open_bundle(bundle).read
    return engine.load(SEGMENT, read(SEGMENT), read("weights.bin"))


def relocate(location: str) -> Callable[[onnx.ModelProto], None]:
    """An edit that lets the weights of a segment refer to another place."""

    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location

    return change


@pytest.mark.parametrize("rows", [1, 1500])
def test_outputs_survive_the_next_run_and_inputs_every_run(
    engine_: Engine, bundle: Path, rows: int
) -> None:
    segment = load(engine_, bundle)
    first, second = feeds(rows), feeds(rows + 1)
    before = {name: value.copy() for name, value in first.items()}
    outputs = segment.run(first)
    expected = {name: value.copy() for name, value in outputs.items()}
    assert {name: value.dtype for name, value in outputs.items()} == {
        "logits": np.float32, "signal": np.float32, "exit": bool, "hidden_out": np.float32,
    }  # fmt: skip
    segment.run(second)
    for name, value in outputs.items():
        np.testing.assert_array_equal(value, expected[name])
    for name, value in first.items():
        np.testing.assert_array_equal(value, before[name])


def test_arrays_that_must_not_be_written_are_read(engine_: Engine, bundle: Path) -> None:
    segment, frozen = load(engine_, bundle), feeds()
    expected = segment.run(frozen)["logits"]
    for value in frozen.values():
        value.flags.writeable = False
    np.testing.assert_array_equal(segment.run(frozen)["logits"], expected)


def test_it_computes_in_float32_with_the_threads_asked_for(bundle: Path) -> None:
    compiled = load(open_engine("openvino", EngineSettings(threads=2)), bundle)._compiled
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_logits_that_are_nan_name_the_rows_as_with_onnxruntime(bundle: Path) -> None:
    def poison(model: onnx.ModelProto) -> None:
        (tensor,) = (item for item in model.graph.initializer if item.name == "word_embeddings")
        words = onnx.numpy_helper.to_array(tensor).copy()
        words[40, 0] = np.nan
        tensor.CopyFrom(onnx.numpy_helper.from_array(words, tensor.name))

    edit_segment(bundle, poison)
    rows = {"input_ids": [[2, 5, 6, 3], [2, 40, 6, 3]]}
    messages = []
    for engine in ("onnxruntime", "openvino"):
        with Session(bundle, engine) as session, pytest.raises(NumericalError) as caught:
            session.run(rows, knobs={"threshold": 2.0})
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_threads_get_the_answers_of_one_thread(bundle: Path) -> None:
    with Session(bundle, "openvino", threads=2) as session:
        work = [feeds(rows)["input_ids"] for rows in (1, 2, 7, 1200)]
        serial = [session.run({"input_ids": ids}).logits for ids in work]

        def thread(seed: int) -> bool:
            order = np.random.default_rng(seed).integers(0, len(work), 40)
            return all(
                np.array_equal(session.run({"input_ids": work[k]}).logits, serial[k]) for k in order
            )

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(thread, range(6)))


def test_a_call_is_cancelled_in_the_middle_of_a_segment(bundle: Path) -> None:
    edit_segment(bundle, lambda model: slow_down(model, 300))
    with Session(bundle, "openvino", threads=1) as session:
        expected = session.run(LARGE).logits
        start = time.monotonic()
        session.run(LARGE)
        whole = time.monotonic() - start
        cancel = Cancel()
        threading.Timer(whole / 10, cancel.cancel).start()
        start = time.monotonic()
        with pytest.raises(CancelledError) as caught:
            session.run(LARGE, cancel=cancel)
        assert time.monotonic() - start < whole / 2
        assert isinstance(caught.value.__cause__, EngineError)
        np.testing.assert_array_equal(session.run(LARGE, cancel=Cancel()).logits, expected)


def slow_down(model: onnx.ModelProto, rounds: int) -> None:
    """Puts a chain of layers in front of the hidden states."""
    nodes = model.graph.node
    at = next(i for i, node in enumerate(nodes) if node.output[0] == "hidden_out")
    layers, last = [], "moved"
    for k in range(rounds):
        layers += [
            onnx.helper.make_node("MatMul", [last, "weight"], [f"product_{k}"]),
            onnx.helper.make_node("Tanh", [f"product_{k}"], [f"slow_{k}"]),
        ]
        last = f"slow_{k}"
    nodes[at].input[0] = last
    for node in reversed(layers):
        nodes.insert(at, node)


def test_a_stopped_call_starts_no_segment(engine_: Engine, bundle: Path) -> None:
    segment, options = load(engine_, bundle), engine_.options()
    options.terminate = True
    with pytest.raises(EngineError, match=f"run {SEGMENT}: the call was stopped"):
        segment.run(feeds(), options)


MEMORY = """
import gc, json, os, sys
import numpy as np
from effbert.runtime import Session

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

session = Session(sys.argv[1], "openvino", threads=1, max_batch_tokens=1 << 20)
small = {"input_ids": [[2, 5, 6, 3]]}
session.run(small)
before = resident()
session.run({"input_ids": np.full((30_000, 32), 5)})
session.run(small)
print(resident() - before)
"""


def test_one_large_batch_does_not_stay_in_memory(bundle: Path) -> None:
    """The allocator is told to keep nothing back, so that what remains is OpenVINO's."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, bundle],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 100, "hidden states are 31 MB a segment; kept, 260 MB in all"


# What it refuses


def test_a_segment_with_an_unknown_operator_is_named_with_the_operator(bundle: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "Nonsense"

    edit_segment(bundle, rename)
    message = rf"OpenVINO cannot open {SEGMENT}, it has no operator Nonsense.*; use"
    with pytest.raises(EngineError, match=message):
        Session(bundle, "openvino")


def test_a_file_that_is_no_graph_is_one_sentence(engine_: Engine) -> None:
    with pytest.raises(EngineError) as caught:
        engine_.load(SEGMENT, b"garbage", None)
    said = str(caught.value)
    assert said.startswith(f"OpenVINO could not open {SEGMENT}: Unable to read the model")
    assert "src/" not in said


@pytest.mark.parametrize("location", ["other.bin", "../other.bin", "ABSOLUTE"])
def test_only_checked_weights_are_read(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    for place in (tmp_path, folder):
        (place / "other.bin").write_bytes(bytes(4096))
    monkeypatch.chdir(folder)
    edit_segment(bundle, relocate(location.replace("ABSOLUTE", str(tmp_path / "other.bin"))))
    with pytest.raises(EngineError, match=SEGMENT):
        Session(bundle, "openvino")


def test_weights_at_an_address_in_memory_are_refused(bundle: Path) -> None:
    """OpenVINO would read there, and the process would end."""
    edit_segment(bundle, relocate("*/_ORT_MEM_ADDR_/*"))
    with pytest.raises(UnsafeContentError, match=SEGMENT):
        Session(bundle, "openvino")


def test_without_openvino_the_way_to_get_it_is_said(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "effbert.runtime.engines.openvino.engine", raising=False)
    with pytest.raises(MissingDependencyError, match=r'pip install "effbert\[openvino\]"'):
        Session(bundle, "openvino")


def test_another_engine_does_not_import_it(bundle: Path) -> None:
    code = (
        "import sys; from effbert.runtime import Session; Session(sys.argv[1])(['good']);"
        "sys.exit('openvino' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, bundle]).returncode == 0


def test_nothing_is_printed(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Session(bundle, "openvino") as session:
        session(["good film"])
    assert capfd.readouterr() == ("", "")


def test_versions_that_answer_wrongly_are_refused(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openvino.__version__", "2026.2.1-21919-releases")
    with pytest.raises(MissingDependencyError, match=r"OpenVINO 2026\.2 answers .* 2026\.3"):
        Session(bundles["entropy"], "openvino")

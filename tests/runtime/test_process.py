"""What a session does to the process it lives in, and the process to it."""

import io
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import fake_engine
from bundle_edits import edit_segment
from effbert.runtime import Session
from effbert.runtime.errors import (
    EngineError,
    InputError,
    MissingDependencyError,
    UnsafeContentError,
)
from fake_engine import SECONDS

ONE = {"input_ids": [[2, 5, 6, 3]]}


def test_an_unknown_engine_is_refused_with_those_that_exist(pristine: Path) -> None:
    with pytest.raises(InputError, match=r"'tensorflow'.*onnxruntime"):
        Session(pristine, engine="tensorflow")


def test_an_engine_that_is_not_installed_is_one_sentence(
    pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "effbert.runtime.engines.onnxruntime.engine", raising=False)
    with pytest.raises(MissingDependencyError, match=r'pip install "effbert\[cpu\]"'):
        Session(pristine, "onnxruntime")


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_a_number_of_threads_that_makes_no_sense_is_refused(pristine: Path, threads: Any) -> None:
    with pytest.raises(InputError, match="Threads"):
        Session(pristine, threads=threads)


def test_a_segment_that_cannot_be_loaded_is_named(bundle: Path) -> None:
    edit_segment(bundle, lambda model: model.graph.node[0].ClearField("op_type"))
    with pytest.raises(EngineError, match=r"open segment-00\.onnx") as caught:
        Session(bundle)
    assert caught.value.__cause__ is not None


def test_nothing_is_printed(pristine: Path, bundle: Path, capfd: pytest.CaptureFixture) -> None:
    with Session(pristine) as session:
        session(["good film"])
        with pytest.raises(InputError):
            session.run({"input_ids": [[-1, 5]]})
    edit_segment(bundle, lambda model: model.graph.node[0].ClearField("op_type"))
    with pytest.raises(EngineError):
        Session(bundle)
    assert capfd.readouterr() == ("", "")


def test_sessions_of_the_host_process_are_not_disturbed(pristine: Path) -> None:
    def plain() -> np.ndarray:
        segment = onnxruntime.InferenceSession(
            pristine / "segment-00.onnx", providers=["CPUExecutionProvider"]
        )
        feeds = {
            "input_ids": np.array(ONE["input_ids"]),
            "attention_mask": np.ones((1, 4), np.int64),
            "token_type_ids": np.zeros((1, 4), np.int64),
            "threshold": np.array(0, np.float32),
        }
        return segment.run(["logits"], feeds)[0]

    before = plain()
    with Session(pristine) as session:
        session.run(ONE)
        np.testing.assert_array_equal(plain(), before)
    np.testing.assert_array_equal(plain(), before)


def test_external_data_is_never_read_from_the_current_folder(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.bin").write_bytes(bytes(4096))

    def point_elsewhere(model: Any) -> None:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "other.bin"

    edit_segment(bundle, point_elsewhere)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((EngineError, UnsafeContentError), match=r"segment-00\.onnx"):
        Session(bundle)


# R12: processes and signals


def answer_in_child(session: Session, queue: Any) -> None:
    queue.put(session.run(ONE, knobs={"threshold": 0.5}).logits)


def test_a_session_sent_to_another_process_opens_the_bundle_there(pristine: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with Session(pristine, threads=1) as session:
        expected = session.run(ONE, knobs={"threshold": 0.5}).logits
        queue = context.Queue()
        process = context.Process(target=answer_in_child, args=(session, queue))
        process.start()
        np.testing.assert_array_equal(queue.get(timeout=30), expected)
        process.join(30)
        assert process.exitcode == 0


def child(code: str, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


FORK = """
import os, sys
from effbert.runtime import Session
session = Session(sys.argv[1])
if (pid := os.fork()) == 0:
    try:
        session(["good"])
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    session.close()
    os._exit(0)
os.waitpid(pid, 0)
print(len(session(["good"])))
"""


def test_a_forked_session_says_so_instead_of_hanging(pristine: Path) -> None:
    done = child(FORK, pristine)
    assert done.returncode == 0, done.stderr
    sentence, number = done.stdout.splitlines()
    assert sentence.startswith("RunError")
    assert "fork" in sentence
    assert number == "1"


INTERRUPTED = """
import signal
import sys
from effbert.runtime import Session
from effbert.runtime.engines.table import ENGINES, Entry
# A shell starts background jobs with SIGINT ignored, and pytest may be one.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv[2])
import fake_engine
ENGINES["waiting"] = Entry(*fake_engine.ENTRY)
session = Session(sys.argv[1], engine="waiting", dependent_rows=True)
print("ready", flush=True)
try:
    while True:
        session.run({"input_ids": [[7, 3]]})
except KeyboardInterrupt:
    print("interrupted", session.run({"input_ids": [[5, 3]]}).exit_index[0], flush=True)
session.close()
"""


def test_an_interrupt_is_seen_within_a_segment(pristine: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, pristine, Path(fake_engine.__file__).parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert isinstance(process.stdout, io.TextIOBase)
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.3 * SECONDS)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted 0\n"
        assert time.monotonic() - start < 3 * SECONDS + 0.2
        assert process.wait(10) == 0

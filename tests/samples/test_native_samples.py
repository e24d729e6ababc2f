"""The C and the C++ sample, as `make native` built them from an installed package."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundle_edits import edit_manifest
from effbert.runtime import Session
from effbert.runtime.engines.native.native_library import onnxruntime_library
from tiny_bundle import LABELS, build_tiny_bundle

SAMPLES = Path(__file__).resolve().parents[2] / "build/native/tests/installed/samples"
TEXTS = ["a very good film", "the plot was dull", "i hated it ."]


def sample(name: str) -> Path:
    if not (SAMPLES / name).exists():
        pytest.skip(f"the sample {name} is not built (`make native` builds it)")
    return SAMPLES / name


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return build_tiny_bundle(tmp_path / "bundle")


def expected(bundle: Path) -> list[tuple[str, float, int]]:
    with Session(bundle) as session:
        return [(answer.label, answer.score, answer.exit_layer) for answer in session(TEXTS)]


def test_the_c_program_labels_texts_as_python_does(bundle: Path) -> None:
    command = [sample("classify"), bundle, str(onnxruntime_library()), *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [f"{label}\t{score:.4f}\tlayer {layer}" for label, score, layer in expected(bundle)]
    assert done.stdout.splitlines() == lines
    assert done.stderr == ""


def test_the_c_program_says_in_a_sentence_what_is_wrong(tmp_path: Path) -> None:
    command = [sample("classify"), tmp_path, str(onnxruntime_library()), "a text"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("is not a bundle: it holds no effbert.json.\n")


@contextmanager
def service(bundle: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sample("service"), bundle, str(onnxruntime_library()), "0", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline().split()[-1])
        finally:
            process.terminate()
    assert process.returncode == 0


def ask(port: int, texts: list[str]) -> list[str]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("".join(f"{text}\n" for text in texts).encode())
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile() as answers:
            return answers.read().splitlines()


def test_the_service_answers_lines_and_opens_a_bundle_again(bundle: Path) -> None:
    def answers() -> list[str]:
        return [f"{label}\t{score:.4f}\t{layer}" for label, score, layer in expected(bundle)]

    with service(bundle) as (process, port):
        before = answers()
        assert ask(port, TEXTS) == before
        assert process.stdout is not None
        names = [f"new-{label}" for label in LABELS]
        edit_manifest(bundle, lambda manifest: manifest.update(labels=names))
        assert ask(port, TEXTS) == before
        os.kill(process.pid, signal.SIGHUP)
        assert process.stdout.readline() == "reloaded\n"
        assert ask(port, TEXTS) == answers() != before
        (bundle / "effbert.json").write_text("{}")
        os.kill(process.pid, signal.SIGHUP)
        assert process.stdout.readline().startswith("not reloaded: effbert.json is not")
        assert ask(port, TEXTS)[0].startswith("new-")


def test_the_service_keeps_a_deadline(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest["knobs"][0].update(default=0))
    with service(bundle, "0") as (_, port):
        assert ask(port, TEXTS)[0].split("\t")[2:] == ["1", "deadline"]

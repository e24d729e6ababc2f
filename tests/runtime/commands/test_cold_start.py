"""Commands start fast, and those for the device run where torch was never installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_bundle import build_tiny_bundle
from walled_command import walled_effbert

BIN = Path(sys.executable).parent


def seconds(command: list[str], tries: int = 5) -> float:
    """Processor time of the best try: what it takes where nothing else runs, as it does here."""
    times = []
    for _ in range(tries):
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))
    return min(times)


@pytest.fixture(scope="module")
def slowness() -> float:
    """How much slower this machine is at the moment than one that imports numpy in 0.12 s."""
    return max(1.0, seconds([sys.executable, "-c", "import numpy"]) / 0.12)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bundle(tmp_path_factory.mktemp("cold") / "bundle")


@pytest.mark.parametrize("command", [["effbert-export"], ["effbert"], ["effbert", "run"]])
def test_help_takes_less_than_half_a_second(command: list[str], slowness: float) -> None:
    program, *arguments = command
    assert seconds([str(BIN / program), *arguments, "--help"]) < 0.5 * slowness


def test_importing_the_runtime_takes_less_than_0_3_seconds(slowness: float) -> None:
    assert seconds([sys.executable, "-c", "import effbert.runtime"]) < 0.3 * slowness


def test_importing_the_runtime_loads_no_exporter_and_no_command_line_library() -> None:
    code = "import json, sys, effbert.runtime; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    loaded = {name.partition(".")[0] for name in json.loads(output.stdout)}
    assert not loaded & {"torch", "transformers", "onnx", "onnx_ir", "onnxscript", "click", "rich"}
    assert not loaded & {"matplotlib", "jinja2", "scipy"}


def test_importing_the_exporter_does_not_load_torch() -> None:
    code = "import sys, effbert.exporter; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("command", ["inspect", "validate"])
def test_a_bundle_is_inspected_and_validated_without_torch(command: str, bundle: Path) -> None:
    done = walled_effbert(command, bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_bundle_answers_without_torch(bundle: Path) -> None:
    done = walled_effbert("run", bundle, "a very good film")
    assert done.returncode == 0, done.stderr
    assert any(label in done.stdout for label in ("negative", "neutral", "positive"))


def test_export_without_torch_is_one_sentence_that_names_the_extra(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    done = walled_effbert("export", checkpoint, tmp_path / "bundle")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "effbert[export" in done.stderr
    assert not (tmp_path / "bundle").exists()

"""benchmarks/static.py on a tiny BERT: every arm answers, and the numbers hang together."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checkpoints import write_deebert
from effbert.exporter import export
from effbert.runtime.bundle import open_bundle, replace_manifest
from effbert.runtime.manifest import OperatingPoint
from vocabularies import WORDS

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "static.py"
INT8 = ["OpenVINO int8"] if find_spec("nncf") else []
BASELINES = ["torch eager", "onnxruntime fp32", "onnxruntime int8 dynamic"]
BASELINES += ["OpenVINO fp32", "OpenVINO bf16", *INT8]
TEXTS = 12


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as `make demo` leaves it; at the point "early" every row leaves at once."""
    folder = tmp_path_factory.mktemp("demo")
    checkpoint = write_deebert(folder / "tiny", layers=3, tokenizer="fast")
    export(checkpoint, folder / "exits_bundle")
    bundle = open_bundle(folder / "exits_bundle")
    early = OperatingPoint("early", {"threshold": 99.0}, "no data")
    replace_manifest(bundle, msgspec.structs.replace(bundle.manifest, operating_points=[early]))
    texts = [" ".join(words) for words in islice(product(WORDS, repeat=3), TEXTS)]
    for name in ("train.csv", "test.csv"):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *((text, 0) for text in texts)])
    return folder


def measured(demo: Path, *options: str) -> dict[str, Any]:
    """Arm -> what the report says of it."""
    report = demo / "report.json"
    command = [sys.executable, str(SCRIPT), "--demo", str(demo), "--json", str(report)]
    command += ["--plot", str(demo / "plot.svg"), "--threads", "1", "--rounds", "3"]
    command += ["--batch", "4", "--seconds", "0.01", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return {result["arm"]: result for result in json.loads(report.read_text())["results"]}


@pytest.fixture(scope="module")
def found(demo: Path) -> dict[str, Any]:
    return measured(demo, "--bundle", f"again={demo / 'exits_bundle'}")


def test_every_baseline_and_every_point_of_every_bundle_is_measured(found: dict[str, Any]) -> None:
    points = product(("fp32", "again"), ("onnxruntime", "openvino"), ("full depth", "early"))
    assert set(found) == {*BASELINES, *map(", ".join, points)}
    assert all(0 < r["p50_ms"] <= r["p95_ms"] <= r["p99_ms"] for r in found.values())


def test_what_computes_in_float32_at_full_depth_answers_as_torch_does(
    found: dict[str, Any],
) -> None:
    exact = ["onnxruntime fp32", "OpenVINO fp32"]
    exact += [arm for arm in found if arm.endswith("full depth")]
    assert max(found[arm]["from_torch"] for arm in exact) < 1e-4
    assert {found[arm]["agreement"] for arm in exact} == {100}
    assert len({found[arm]["accuracy"] for arm in exact}) == 1
    assert found["onnxruntime int8 dynamic"]["from_torch"] > 1e-4


def test_ratios_are_those_of_the_times(found: dict[str, Any]) -> None:
    assert found["onnxruntime fp32"]["ratios"]["onnxruntime fp32"] == [1, 1, 1]
    slow, fast = found["torch eager"], found["onnxruntime fp32"]
    assert slow["ratios"]["onnxruntime fp32"][1] > 1
    assert slow["rows_per_second"] < fast["rows_per_second"]


def test_flops_follow_the_exits(found: dict[str, Any]) -> None:
    full, early = (found[f"fp32, onnxruntime, {point}"] for point in ("full depth", "early"))
    assert full["exits"] == [0, 0, 1]
    assert full["layers"] == 3
    assert full["realised_exits"] == 1
    assert early["exits"] == [1, 0, 0]
    assert early["layers"] == 1
    # One of three layers; the uncut graph computes all of the last one, the chain one token of it.
    assert early["flops"] == pytest.approx(1 / 3, rel=0.1)
    assert early["flops"] < full["flops"] < 1
    uncut = found["onnxruntime fp32"]["pass_ms"]
    speedup = uncut / early["pass_ms"]
    assert early["realised"] == pytest.approx(speedup * early["flops"], abs=1e-3)


def test_a_bundle_that_is_none_is_named_in_one_line(demo: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--demo", str(demo), "--bundle", f"other={demo}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "expected NAME=FOLDER" in done.stderr.splitlines()[-1]

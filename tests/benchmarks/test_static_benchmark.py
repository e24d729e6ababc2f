"""benchmarks/static.py on tiny BERTs: every arm answers, and the numbers hang together."""

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
from effbert.runtime.bundle.folder import open_bundle, replace_manifest
from effbert.runtime.bundle.manifest import OperatingPoint
from vocabularies import WORDS

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "static.py"
INT8 = ["OpenVINO int8"] if find_spec("nncf") else []
BASELINES = ["torch eager", "onnxruntime fp32", "onnxruntime int8 dynamic"]
BASELINES += ["OpenVINO fp32", "OpenVINO bf16", *INT8]
UNCUT = {  # what a bundle is held against
    ("fp32", "onnxruntime"): "onnxruntime fp32",
    ("fp32", "openvino"): "OpenVINO fp32",
    ("int8", "onnxruntime"): "onnxruntime int8 dynamic",
    ("int8", "openvino"): INT8[0] if INT8 else "OpenVINO fp32",
}
TEXTS = 12


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as `make demo` leaves it; at loss-0.5 every row leaves at once."""
    folder = tmp_path_factory.mktemp("demo")
    checkpoint = write_deebert(folder / "tiny", layers=3, tokenizer="fast")
    early = OperatingPoint("loss-0.5", {"threshold": 99.0}, "no data")
    for name, precision in (("exits", "fp32"), ("int8", "int8")):
        export(checkpoint, folder / f"{name}_bundle", precision=precision, min_agreement=0)
        bundle = open_bundle(folder / f"{name}_bundle")
        replace_manifest(bundle, msgspec.structs.replace(bundle.manifest, operating_points=[early]))
    texts = [" ".join(words) for words in islice(product(WORDS, repeat=3), TEXTS)]
    for name in ("train.csv", "test.csv"):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *((text, 0) for text in texts)])
    return folder


def measured(folder: Path, *options: str) -> list[dict[str, Any]]:
    """The results, which lie in the folder with a plot and a table."""
    report = folder / "report.json"
    command = [sys.executable, str(SCRIPT), "--json", str(report), "--threads", "1"]
    command += ["--plot", str(folder / "plot.svg"), "--markdown", str(folder / "table.md")]
    command += ["--seconds", "0.01", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "</svg>" in (folder / "plot.svg").read_text()
    return json.loads(report.read_text())["results"]


@pytest.fixture(scope="module")
def found(demo: Path) -> dict[str, Any]:
    """Arm -> what the report says of it."""
    again = f"again={demo / 'exits_bundle'}"
    options = ("--demo", str(demo), "--batch", "4", "--rounds", "3", "--bundle", again)
    return {result["arm"]: result for result in measured(demo, *options)}


def table(folder: Path) -> list[list[str]]:
    """The cells of the Markdown table, its first line without the one below it."""
    lines = (folder / "table.md").read_text().splitlines()
    first, _, *rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return [first, *rows]


def test_every_baseline_and_every_point_of_every_bundle_is_measured(found: dict[str, Any]) -> None:
    bundles, engines = ("fp32", "int8", "again"), ("onnxruntime", "openvino")
    points = product(bundles, engines, ("full depth", "loss-0.5"))
    assert set(found) == {*BASELINES, *map(", ".join, points)}
    assert all(0 < r["p50_ms"] <= r["p95_ms"] <= r["p99_ms"] for r in found.values())


def test_what_computes_in_float32_at_full_depth_answers_as_torch_does(
    found: dict[str, Any],
) -> None:
    exact = ["onnxruntime fp32", "OpenVINO fp32"]
    exact += [f"fp32, {engine}, full depth" for engine in ("onnxruntime", "openvino")]
    assert max(found[arm]["from_torch"] for arm in exact) < 1e-4
    assert {found[arm]["agreement"] for arm in exact} == {100}
    assert len({found[arm]["accuracy"] for arm in exact}) == 1
    assert found["onnxruntime int8 dynamic"]["from_torch"] > 1e-4
    assert found["int8, onnxruntime, full depth"]["from_torch"] > 1e-4


def test_ratios_are_those_of_the_times(found: dict[str, Any]) -> None:
    assert found["onnxruntime fp32"]["ratios"]["onnxruntime fp32"] == [1, 1, 1]
    slow, fast = found["torch eager"], found["onnxruntime fp32"]
    assert slow["ratios"]["onnxruntime fp32"][1] > 1
    assert slow["rows_per_second"] < fast["rows_per_second"]


def test_flops_follow_the_exits(found: dict[str, Any]) -> None:
    full, early = (found[f"fp32, onnxruntime, {point}"] for point in ("full depth", "loss-0.5"))
    assert full["exits"] == [0, 0, 1]
    assert full["layers"] == 3
    assert full["realised_exits"] == 1
    assert early["exits"] == [1, 0, 0]
    assert early["layers"] == 1
    # One of three layers; the uncut graph computes all of the last one, the chain one token of it.
    assert early["flops"] == pytest.approx(1 / 3, rel=0.1)
    assert early["flops"] < full["flops"] < 1


@pytest.mark.parametrize("bundle, engine", UNCUT)
def test_a_bundle_is_held_against_the_uncut_model_of_its_precision(
    found: dict[str, Any], bundle: str, engine: str
) -> None:
    early = found[f"{bundle}, {engine}, loss-0.5"]
    assert early["uncut"] == UNCUT[bundle, engine]
    speedup = found[early["uncut"]]["pass_ms"] / early["pass_ms"]
    assert early["realised"] == pytest.approx(speedup * early["flops"], abs=1e-3)


def test_the_table_of_texts_has_a_row_an_arm(demo: Path, found: dict[str, Any]) -> None:
    columns, *rows = table(demo)
    assert len(rows) == len(found)
    assert columns[-2] == "texts/s at batch 4"
    names = {
        f"effbert {arm}" if "bundle" in r else f"{arm}, uncut": arm for arm, r in found.items()
    }
    for name, accuracy, layer, p50, p95, *ratios, speed, _ in rows:
        r = found[names[name]]
        shown = (r["accuracy"], r["layers"], r["p50_ms"], r["p95_ms"], r["rows_per_second"])
        assert [float(x) for x in (accuracy, layer, p50, p95, speed)] == pytest.approx(
            shown, abs=0.5
        )
        against = ["onnxruntime fp32", "onnxruntime int8 dynamic", *INT8]
        wanted = [r["ratios"][other][1] for other in against]
        assert list(map(float, ratios)) == pytest.approx(wanted, abs=0.006)
    last = (demo / "table.md").read_text().splitlines()[-1]
    assert "--threads 1" in last
    assert "onnxruntime 1." in last


def test_without_texts_there_is_a_mix_of_lengths_in_both_precisions(tmp_path: Path) -> None:
    shape = ("--layers", "2", "--hidden", "64", "--vocabulary", "3000")
    results = measured(tmp_path, *shape, "--batch", "2", "--rounds", "1")
    workloads = [f"2 x {length}" for length in (16, 32, 64, 128, 256, "mix")]
    assert list(dict.fromkeys(r["workload"] for r in results)) == workloads
    arms = [", ".join((*point, "full depth")) for point in UNCUT]
    assert {r["arm"] for r in results} == {*BASELINES, *arms}
    columns, *rows = table(tmp_path)
    assert [row[0] for row in rows] == workloads
    for r in results[-len(arms) :]:
        cell = rows[-1][columns.index(f"effbert {r['bundle']}, {r['engine']}")]
        ratio = r["ratios"][UNCUT[r["bundle"], r["engine"]]][1]
        assert cell == f"{r['p50_ms']:.1f} ({ratio:.2f})"


def test_a_bundle_that_is_none_is_named_in_one_line(demo: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--demo", str(demo), "--bundle", f"other={demo}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "expected NAME=FOLDER" in done.stderr.splitlines()[-1]

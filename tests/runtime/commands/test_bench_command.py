"""`effbert bench`: what is measured, what is printed, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bundle_edits import at, edit_manifest
from effbert.runtime import Session
from effbert.runtime.bench import timing as bench_measure
from effbert.runtime.bench.workloads import random_workloads, sentence_lengths
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.bundle.manifest import Limits
from effbert.runtime.commands import effbert
from effbert.runtime.engines import table
from effbert.runtime.engines.native import native_library
from effbert.runtime.engines.row_independence import DIFFERENCES
from effbert.runtime.engines.table import ENGINES, Entry, installed_engines

POINTS = [
    {"name": "first exit", "knobs": {"threshold": 2.0}, "data": "none"},
    {"name": "mixed", "knobs": {"threshold": [0.0, 2.0, 0.0]}, "data": "none"},
]
TEXTS = ["a very good film", "the plot was dull , but the actor was fine", "bad", "i hated it ."]

ON_REQUEST = [name for name, entry in ENGINES.items() if entry.on_request]


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_measure, "TURN", 1e-4)


@pytest.fixture(autouse=True)
def without_the_native_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is built here or not: the tests count engines."""
    native_library.load_library.cache_clear()
    monkeypatch.setenv(native_library.VARIABLE, "/nothing/libeffbert.so")


@pytest.fixture(scope="module")
def bundle(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with two operating points."""
    copy = shutil.copytree(bundles["entropy"], tmp_path_factory.mktemp("bench") / "bundle")
    edit_manifest(copy, at("operating_points", POINTS))
    return copy


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    path.write_text("text\n" + "".join(f'"{text}"\n' for text in TEXTS), encoding="utf-8")
    return path


def bench(bundle: Path, *arguments: Any) -> Result:
    return CliRunner().invoke(
        effbert, ["bench", str(bundle), "--threads", "1", "--rounds", "2", *map(str, arguments)]
    )


def found(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_precision_whose_rows_nobody_measured_is_timed_all_the_same(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(DIFFERENCES, ("openvino", "fp32"))
    report = found(bench(bundle, "--batch", "1", "--lengths", "4", "--json"))
    assert [result["engine"] for result in report["results"]] == installed_engines()


def test_a_file_without_texts_is_one_sentence(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("")
    result = bench(bundle, "--data", tmp_path / "texts.txt")
    assert result.exit_code == 2
    assert "holds no text" in result.output


def test_token_ids_run_to_the_last_exit_with_every_engine(bundle: Path) -> None:
    report = found(bench(bundle, "--batch", "1,3", "--lengths", "4,9", "--json"))
    assert report["threads"] == 1
    assert {"date", "machine", "cores", "python"} <= set(report)
    assert set(report["versions"]) >= {"effbert", "onnxruntime", "openvino"}
    arms = [(r["workload"], r["engine"]) for r in report["results"]]
    shapes = ["1 x 4", "1 x 9", "3 x 4", "3 x 9"]
    assert arms == [(shape, engine) for shape in shapes for engine in installed_engines()]
    for result in report["results"]:
        assert result["exits"] == [0, 0, 1]
        assert result["layers"] == 3
        assert 0 < result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"]
        assert result["ratio"] == 1 or result["engine"] != "onnxruntime"


def test_texts_are_measured_at_every_operating_point(bundle: Path, data: Path) -> None:
    report = found(bench(bundle, "--data", data, "--batch", "1,3", "--json"))
    points = {(r["engine"], r["point"]): r for r in report["results"] if r["batch"] == 3}
    wanted = ["full depth", "first exit", "mixed"]
    assert set(points) == {(engine, point) for engine in installed_engines() for point in wanted}
    for engine in installed_engines():
        assert points[engine, "full depth"]["exits"] == [0, 0, 1]
        assert points[engine, "first exit"]["exits"] == [1, 0, 0]
        assert points[engine, "first exit"]["layers"] == 1
    with Session(bundle, threads=1) as session:
        layers = [answer.exit_layer for answer in session(TEXTS, POINTS[1]["knobs"])]
    assert points["onnxruntime", "mixed"]["layers"] == pytest.approx(np.mean(layers), abs=1e-3)


def test_defaults_that_exit_early_are_an_arm(bundle: Path, data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    edit_manifest(copy, at("knobs.0.default", 0.5))
    report = found(bench(copy, "--data", data, "--batch", 1, "--json"))
    assert "defaults" in {result["point"] for result in report["results"]}


def test_a_call_is_timed_once_a_turn_and_rows_a_second_follow(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(np.arange(0, 1000, 0.004))  # every look at the clock comes 4 ms later
    monkeypatch.setattr(bench_measure.time, "perf_counter", lambda: float(next(clock)))
    for result in found(bench(bundle, "--batch", 2, "--lengths", 4, "--json"))["results"]:
        assert result["p50_ms"] == result["p99_ms"] == 4
        assert result["rows_per_second"] == 500
        assert result["ratio"] == 1


def test_the_table_has_a_line_for_each_arm(bundle: Path, data: Path) -> None:
    lines = bench(bundle, "--data", data, "--batch", 4).stdout.splitlines()
    assert lines[0].endswith("ratios to onnxruntime, full depth")
    assert lines[1].split("\t")[0] == "rows x tokens"
    assert lines[2].split("\t")[-3:] == ["full depth", "3.00", "0 0 100"]
    table = 2 + 3 * len(installed_engines()) + 1
    assert "How the segments run" in lines[table:]
    notes = lines.index("Not measured")
    assert lines[notes + 1] == "engine\treason"
    assert len(lines) == notes + 3 + len(ON_REQUEST)


def test_engines_that_cannot_run_here_are_skipped_with_the_reason(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry("no_such_module:Engine", "no_such_library", "pip install it", on_request=True)
    monkeypatch.setitem(ENGINES, "absent", entry)
    report = found(bench(bundle, "--batch", "1", "--lengths", "4", "--json"))
    assert [*report["skipped"]] == [*ON_REQUEST, "absent"]
    assert "needs no_such_library, which cannot be imported" in report["skipped"]["absent"]
    assert report["skipped"]["absent"].endswith("install it with: pip install it.")


@pytest.mark.parametrize("on_texts", [True, False])
def test_the_plot_is_written(bundle: Path, data: Path, tmp_path: Path, on_texts: bool) -> None:
    path = tmp_path / "plot.svg"
    options = ["--data", data] if on_texts else ["--lengths", "4,8"]
    result = bench(bundle, "--batch", "1,2", "--plot", path, *options)
    assert result.exit_code == 0, result.output
    assert "</svg>" in path.read_text()


def test_engines_that_are_not_installed_are_left_out(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "find_spec", lambda name: name == "onnxruntime")
    report = found(bench(bundle, "--batch", 1, "--lengths", 4, "--json"))
    assert [result["engine"] for result in report["results"]] == ["onnxruntime"]
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    result = bench(bundle)
    assert result.exit_code == 2
    assert 'pip install "effbert[cpu]" or pip install "effbert[openvino]"' in result.output


def test_lengths_left_out_are_those_the_model_reads(bundle: Path) -> None:
    report = found(bench(bundle, "--batch", 1, "--json"))
    assert {result["workload"] for result in report["results"]} == {"1 x 16", "1 x 32", "1 x mix"}


def test_a_mix_has_the_lengths_of_sentences_padded_within_a_call(bundle: Path) -> None:
    opened = open_bundle(bundle)
    (mix,) = (item for item in random_workloads(opened, [5], None) if item.length is None)
    assert (mix.name, mix.rows, len(mix.calls)) == ("5 x mix", 64, 13)
    for call in mix.calls:
        ids, mask = call["input_ids"], call["attention_mask"]
        assert mask.sum(axis=1).max() == ids.shape[1]
        assert (ids[mask == 0] == opened.manifest.limits.pad_id).all()
        assert (np.diff(mask) <= 0).all()
    lengths = np.concatenate([call["attention_mask"].sum(axis=1) for call in mix.calls])
    assert lengths.tolist() == sentence_lengths(opened.manifest.limits)
    assert lengths.max() == opened.manifest.limits.max_length == 32  # the longest are cut


def test_sentences_are_mostly_short_and_sometimes_long() -> None:
    lengths = sentence_lengths(Limits(max_length=512, vocab_size=100))
    short, median, long = np.percentile(lengths, (5, 50, 95))
    assert 5 < short < 12 < 20 < median < 28 < 45 < long < 90


def broken(text: str) -> Callable[[Path], list[Any]]:
    def arguments(folder: Path) -> list[Any]:
        (folder / "bad.csv").write_text(text, encoding="utf-8")
        return ["--data", folder / "bad.csv"]

    return arguments


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (lambda _: ["--lengths", "64"], "reads 2 to 32 tokens"),
        (lambda _: ["--lengths", "1"], "reads 2 to 32 tokens"),
        (lambda _: ["--batch", "0"], "integers from 1"),
        (lambda _: ["--batch", "1;8"], "integers from 1"),
        (lambda _: ["--rounds", "0"], "--rounds"),
        (lambda _: ["--threads", "0"], "0 is not in the range"),
        (lambda folder: ["--data", folder / "none.csv"], "cannot be read"),
        (broken("label\n1\n"), "needs the column text"),
        (broken("text\n"), "holds no rows"),
        (lambda folder: ["--plot", folder / "plot.txt"], "ends in .svg"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    bundle: Path, tmp_path: Path, arguments: Callable[[Path], list[Any]], sentence: str
) -> None:
    result = bench(bundle, *arguments(tmp_path))
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stdout == ""


def test_a_bundle_without_a_tokenizer_is_measured_on_token_ids_only(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    edit_manifest(copy, at("tokenizer", None))
    edit_manifest(copy, at("golden", []))
    edit_manifest(copy, lambda manifest: manifest["files"].pop("tokenizer.json"))
    assert bench(copy, "--batch", 1, "--lengths", 4).exit_code == 0
    result = bench(copy, "--data", data)
    assert (result.exit_code, "no tokenizer" in result.stderr) == (2, True)

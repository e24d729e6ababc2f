"""`effbert search` on small bundles: what it writes, how it fails, and how it survives."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bundle_edits import at, edit_manifest
from checkpoints import write_deebert
from effbert.exporter import export
from effbert.runtime import Session
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.commands import effbert
from effbert.runtime.points import front_search as pipeline
from effbert.runtime.points import measure
from search_command import SMALL, search, summary, table, texts
from tiny_bundle import build_tiny_bundle
from walled_command import walled_effbert

EFFBERT = Path(sys.executable).with_name("effbert")


def without_tokenizer(manifest: dict[str, Any]) -> None:
    manifest["tokenizer"] = None
    for row in manifest["golden"]:
        row["text"] = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A length-adaptive bundle with exits, one whose exits alone are searched, and their data."""
    folder = tmp_path_factory.mktemp("search")
    checkpoint = write_deebert(folder / "checkpoint", layers=3, tokenizer="fast")
    export(checkpoint, folder / "lengths", length_adaptive=True, verify=False)
    shutil.copytree(folder / "lengths", folder / "ids")
    edit_manifest(folder / "ids", without_tokenizer)
    build_tiny_bundle(folder / "patience", policy="patience")
    build_tiny_bundle(folder / "exits")
    # The full model's own answers, one in five wrong: dropping and exiting cost accuracy.
    for name in ("lengths", "exits"):
        session = Session(folder / name, threads=1)
        names = session.bundle.manifest.labels
        answers = [names.index(answer.label) for answer in session(texts(60))]
        labels = [(label + (n % 5 == 0)) % 3 for n, label in enumerate(answers)]
        table(folder / f"{name}.csv", list(zip(texts(60), labels, strict=True)))
    return folder


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(folder / name, tmp_path / name))


@pytest.mark.parametrize(
    "name, over",
    [("lengths", "lengths"), ("lengths", "lengths,threshold"), ("exits", "threshold")],
)
@pytest.mark.parametrize("cost", ["flops", "latency"])
def test_the_front_becomes_operating_points(
    name: str, over: str, cost: str, folder: Path, copied: Callable[[str], Path]
) -> None:
    bundle, data = copied(name), folder / f"{name}.csv"
    other = {"name": "mine", "knobs": {"threshold": 0.1}, "data": "none"}
    old = {"name": "front-99", "knobs": {"threshold": 0.2}, "data": "none"}
    edit_manifest(bundle, at("operating_points", [other, old]))
    knobs = ["--over", over] if cost == "flops" else [f"--over={each}" for each in over.split(",")]
    said = summary(search(bundle, data, *knobs, "--cost", cost, "--generations", "2", "--json"))
    first, *front = open_bundle(bundle).manifest.operating_points
    assert first.name == "mine"
    assert [point.name for point in front] == [f"front-{n}" for n in range(1, len(front) + 1)]
    assert [point["name"] for point in said["points"]] == [point.name for point in front]
    costs = [point.cost[f"{cost} ratio"] for point in front]
    quality = [point.quality["accuracy"] for point in front]
    assert costs == sorted(costs)
    assert quality == sorted(set(quality))
    assert costs[0] > 0
    if cost == "flops":
        assert costs[0] < 0.95
        assert costs[-1] <= 1
    for point in front:
        assert set(point.knobs) == set(over.split(","))
        assert point.quality["accuracy"] == pytest.approx(
            accuracy(bundle, data, point.name), abs=0.01
        )
        assert point.quality["full accuracy"] == pytest.approx(accuracy(bundle, data), abs=0.01)
    ran = CliRunner().invoke(
        effbert, ["run", str(bundle), "--operating-point", "front-1", "a good film"]
    )
    assert ran.exit_code == 0, ran.output


def accuracy(bundle: Path, data: Path, point: str | None = None) -> float:
    rows = list(csv.DictReader(data.open()))
    with Session(bundle, threads=1, operating_point=point) as session:
        names = session.bundle.manifest.labels
        answers = session([row["text"] for row in rows])
    right = [names.index(a.label) == int(r["label"]) for a, r in zip(answers, rows, strict=True)]
    return 100 * sum(right) / len(rows)


def test_all_texts_are_answered_where_some_are_timed(
    folder: Path, copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "TIMED", 1)  # of the two batches
    bundle, data = copied("exits"), folder / "exits.csv"
    search(bundle, data, "--over", "threshold", "--cost", "latency", "--generations", "0")
    first, *_ = open_bundle(bundle).manifest.operating_points
    assert first.cost["latency ratio"] > 0
    assert first.quality["accuracy"] == pytest.approx(accuracy(bundle, data, "front-1"), abs=0.01)


@pytest.mark.parametrize("cost", ["flops", "latency"])
@pytest.mark.parametrize(
    "over, knob, default, share",
    [("threshold", "lengths", [2, 2, 2], 0.6), ("lengths", "threshold", "inf", 0.45)],
)
def test_costs_are_those_of_the_full_model_whatever_the_defaults(
    over: str, knob: str, default: Any, share: float, cost: str, folder: Path, copied: Any
) -> None:
    bundle = copied("lengths")
    names = [each.name for each in open_bundle(bundle).manifest.knobs]
    edit_manifest(bundle, at(f"knobs.{names.index(knob)}.default", default))
    search(bundle, folder / "lengths.csv", "--over", over, "--generations", "0", "--cost", cost)
    costs = [point.cost[f"{cost} ratio"] for point in open_bundle(bundle).manifest.operating_points]
    assert 0 < max(costs) < (share if cost == "flops" else 1)


def test_it_runs_without_torch(folder: Path, copied: Callable[[str], Path]) -> None:
    data = folder / "lengths.csv"
    done = walled_effbert("search", copied("lengths"), "--data", data, *SMALL, "--generations", "0")
    assert done.returncode == 0, done.stderr
    assert "front-1" in done.stdout


def test_the_table_names_the_points(folder: Path, copied: Callable[[str], Path]) -> None:
    result = search(copied("lengths"), folder / "lengths.csv", "--generations", "0")
    assert result.exit_code == 0, result.output
    title, columns, first, *_ = result.stdout.splitlines()
    assert title == "Front of 7 evaluated, now operating points of the bundle"
    names = ["point", "flops ratio", "accuracy, %", "full accuracy, %", "lengths", "threshold"]
    assert columns.split("\t") == names
    assert first.startswith("front-1\t0.")


@pytest.mark.parametrize("lines", [1, 2, 6, 13])  # of the header, and of the first generations
def test_killed_at_any_moment_it_goes_on(
    folder: Path, copied: Callable[[str], Path], lines: int
) -> None:
    bundle, data = copied("lengths"), folder / "lengths.csv"
    store = bundle.with_name("lengths.search.jsonl")
    command = [EFFBERT, "search", bundle, "--data", data, *SMALL, "--generations", "500"]
    with subprocess.Popen(command) as process:
        wait_for(lambda: store.exists() and store.read_bytes().count(b"\n") >= lines)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    killed = store.read_bytes()
    whole_lines = killed[: killed.rfind(b"\n") + 1]
    assert open_bundle(bundle).manifest.operating_points == []
    reached = json.loads(whole_lines.splitlines()[-1]).get("generation", 0)  # not in the header
    generations = str(reached + 1)
    resumed = summary(search(bundle, data, "--generations", generations, "--resume", "--json"))
    assert store.read_bytes().startswith(whole_lines)
    whole = summary(
        search(bundle, data, "--generations", generations, "--store", f"{store}.2", "--json")
    )
    assert whole["points"] == resumed["points"]
    assert whole["evaluated"] == resumed["evaluated"]
    assert store.read_bytes() == Path(f"{store}.2").read_bytes()


def wait_for(reached: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to a process")
def test_ctrl_c_names_the_way_to_go_on(folder: Path, copied: Callable[[str], Path]) -> None:
    bundle = copied("exits")
    store = bundle.with_name("exits.search.jsonl")
    data = folder / "exits.csv"
    command = [EFFBERT, "search", bundle, "--data", data, "--over", "threshold", "--threads", "1"]
    command += ["--generations", "0", "--population", "31"]
    start = [sys.executable, "-c", SIGINT_ON + f"main({[*map(str, command[1:])]!r})"]
    with subprocess.Popen(start, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: store.exists() and store.read_bytes().count(b"\n") > 2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "--resume" in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


# A shell starts background jobs with SIGINT ignored, and pytest may be one. The last gene lasts,
# so that the signal comes in time.
SIGINT_ON = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from effbert.runtime.points import measure
from effbert.runtime.points import front_search as pipeline
from effbert.runtime.commands import main
measure = pipeline.measure
def slow(*arguments):
    time.sleep(0.1)
    return measure(*arguments)
pipeline.measure = slow
"""


def test_an_earlier_search_is_refused_or_resumed(
    folder: Path, copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, data = copied("lengths"), folder / "lengths.csv"
    first = summary(search(bundle, data, "--generations", "1", "--json"))
    again = search(bundle, data, "--generations", "1")
    assert again.exit_code == 2
    assert "holds an earlier search; go on with --resume" in again.stderr
    monkeypatch.setattr(pipeline, "measure", None)  # nothing is measured again
    assert summary(search(bundle, data, "--generations", "1", "--resume", "--json")) == first


@pytest.mark.parametrize(
    "name, content, arguments, message",
    [
        ("exits", None, ["--over", "lengths"], "no knob 'lengths' to search"),
        ("lengths", None, ["--over", "width"], "--over: got width, expected lengths, threshold"),
        ("ids", None, [], "A bundle without a tokenizer cannot be searched"),
        ("patience", None, ["--over", "threshold"], "no knob 'threshold' to search"),
        ("missing", None, [], "There is no bundle at"),
        ("lengths", "text;label\n", [], "needs the columns text and label"),
        ("lengths", "text,label\na film,maybe\n", [], "line 2: label 'maybe' is none of the"),
        ("lengths", None, ["--store", "/no/such/folder/x"], "cannot be made: No such file"),
        ("lengths", None, ["--plot", "x.txt"], "expected a name that ends in .svg"),
        ("lengths", None, ["--plot", "/no/folder/x.svg"], "there is no folder /no/folder"),
        ("lengths", None, ["--engine", "abacus"], "abacus"),
    ],
)
def test_mistakes_are_one_sentence(
    name: str,
    content: str | None,
    arguments: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
) -> None:
    data = folder / "lengths.csv"
    if content is not None:
        data = tmp_path / "data.csv"
        data.write_text(content)
    result = search(folder / name, data, "--store", str(tmp_path / "store"), *arguments)
    assert result.exit_code == 2, result.output
    *usage, sentence = result.stderr.strip().splitlines()
    assert message in sentence
    assert not usage or usage[0].startswith("Usage: effbert search ")
    assert not (tmp_path / "store").exists()


def test_the_genes_are_drawn(folder: Path, copied: Callable[[str], Path], tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    result = search(
        copied("lengths"), folder / "lengths.csv", "--generations", "0", "--plot", str(plot)
    )
    assert result.exit_code == 0, result.output
    assert plot.read_text().startswith("<?xml")

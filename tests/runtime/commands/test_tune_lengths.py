"""`effbert tune` where lengths evolve: what it writes, how it fails, and how it survives."""

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
from effbert.runtime.points import length_search, rehearsal
from matrices import slow_but
from tune_command import SMALL, summary, table, texts, tune
from walled_command import walled_effbert

EFFBERT = Path(sys.executable).with_name("effbert")
FLOPS = ("--cost", "flops", *SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two length-adaptive bundles, with exits and without, and the full model's own answers.

    One in five is wrong, so that dropping and exiting cost accuracy. The last highway of the first
    answers otherwise than the model.
    """
    folder = tmp_path_factory.mktemp("lengths")
    checkpoint = write_deebert(folder / "checkpoint", layers=3, tokenizer="fast")
    export(checkpoint, folder / "exits", length_adaptive=True, verify=False)
    export(checkpoint, folder / "alone", length_adaptive=True, verify=False, exits="3")
    with Session(folder / "exits", threads=1) as session:
        answers = [answer.label_id for answer in session(texts(120))]
    labels = [(label + (n % 5 == 0)) % 3 for n, label in enumerate(answers)]
    table(folder / "data.csv", list(zip(texts(120), labels, strict=True)))
    return folder


@pytest.fixture(autouse=True)
def few_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMED", 3)


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(folder / name, tmp_path / name))


def store_of(bundle: Path) -> Path:
    [store] = bundle.with_name(f"{bundle.name}.tune").glob("*.jsonl")
    return store


def accuracy(bundle: Path, data: Path, point: str | None = None) -> float:
    """Of the second, the fourth, ... example: lengths evolve on the others."""
    rows = list(csv.DictReader(data.open()))[1::2]
    with Session(bundle, threads=1, operating_point=point) as session:
        answers = session([row["text"] for row in rows])
    right = [a.label_id == int(r["label"]) for a, r in zip(answers, rows, strict=True)]
    return 100 * sum(right) / len(rows)


@pytest.mark.parametrize("cost", slow_but(["flops", "throughput"], "flops"))
@pytest.mark.parametrize("name", ["exits", "alone"])
def test_the_front_becomes_operating_points(
    name: str, cost: str, folder: Path, copied: Callable[[str], Path]
) -> None:
    bundle, data = copied(name), folder / "data.csv"
    other = {"name": "mine", "knobs": {}, "data": "none"}
    edit_manifest(bundle, at("operating_points", [other, {**other, "name": "front-99"}]))
    arguments = ("--front", "--cost", cost, *SMALL, "--generations", "1", "--json")
    said = summary(tune(bundle, data, *arguments))
    assert (said["examples"], said["evolved"]) == (60, 60)
    assert said["configurations"] > 7
    mine, *front = open_bundle(bundle).manifest.operating_points
    assert mine.name == "mine"
    assert [point.name for point in front] == [f"front-{n}" for n in range(1, len(front) + 1)]
    assert [point["name"] for point in said["points"]] == [point.name for point in front]
    costs = [point.cost[f"{cost} ratio"] for point in front]
    quality = [point.quality["accuracy"] for point in front]
    assert costs == sorted(costs)
    assert quality == sorted(set(quality))
    if cost == "flops":
        assert 0 < costs[0] < 0.95
        assert costs[-1] <= 1
    for point in front:
        assert len(point.knobs) == 1 + (name == "exits")
        assert quality[front.index(point)] == pytest.approx(
            accuracy(bundle, data, point.name), abs=0.01
        )
        assert point.quality["full accuracy"] == pytest.approx(accuracy(bundle, data), abs=0.01)
    command = ["run", str(bundle), "--operating-point", "front-1", "a good film"]
    ran = CliRunner().invoke(effbert, command)
    assert ran.exit_code == 0, ran.output


def test_a_target_is_met_with_lengths_and_threshold_together(
    folder: Path, copied: Callable[[str], Path]
) -> None:
    bundle, data = copied("exits"), folder / "data.csv"
    wanted = ("--max-loss", "30", "--speedup", "1.2", *FLOPS, "--generations", "1", "--json")
    loss, speedup = summary(tune(bundle, data, *wanted))["points"]
    assert loss["quality"]["accuracy"] >= accuracy(bundle, data) - 30
    assert loss["cost"]["flops ratio"] < 0.95
    assert speedup["cost"]["flops ratio"] <= 1 / 1.2 + 1e-4
    assert set(loss["knobs"]) == {"lengths", "threshold"}
    assert loss["knobs"]["threshold"][-1] == "-inf"  # of the last highway, which is not trained


def test_lengths_that_are_the_default_are_tried_too(
    folder: Path, copied: Callable[[str], Path]
) -> None:
    bundle = copied("alone")
    names = [knob.name for knob in open_bundle(bundle).manifest.knobs]
    edit_manifest(
        bundle, at(f"knobs.{names.index('lengths')}.default", [2, 2, 2])
    )  # less than any that evolves
    arguments = ("--front", *FLOPS, "--generations", "0", "--json")
    said = summary(tune(bundle, folder / "data.csv", *arguments))
    assert said["points"][0]["knobs"] == {"lengths": [2, 2, 2]}
    assert said["points"][-1]["cost"]["flops ratio"] <= 1


def test_without_labels_answers_are_compared_with_the_full_model(
    folder: Path, copied: Callable[[str], Path], tmp_path: Path
) -> None:
    data = tmp_path / "data.csv"
    data.write_text("text\n" + "\n".join(texts(40)))
    arguments = ("--front", *FLOPS, "--generations", "0", "--json")
    points = summary(tune(copied("alone"), data, *arguments))["points"]
    assert {point["quality"]["full agreement"] for point in points} == {100}
    assert points[0]["quality"]["agreement"] < 100
    assert points[0]["cost"]["flops ratio"] < 1


def test_it_runs_without_torch(folder: Path, copied: Callable[[str], Path]) -> None:
    data = folder / "data.csv"
    done = walled_effbert(
        *("tune", copied("alone"), "--data", data, *FLOPS, "--generations", "0", "--front")
    )
    assert done.returncode == 0, done.stderr
    assert "front-1" in done.stdout
    assert "lengths, evolved on 60 others" in done.stdout


@pytest.mark.parametrize(
    "lines", slow_but([1, 6, 13], 6)
)  # of the first genes, and of the first generations
def test_killed_at_any_moment_it_goes_on(
    folder: Path, copied: Callable[[str], Path], tmp_path: Path, lines: int
) -> None:
    bundle, data = copied("exits"), folder / "data.csv"
    command = [EFFBERT, "tune", bundle, "--data", data, "--threads", "1", "--front", *FLOPS]
    kept = bundle.with_name("exits.tune")
    with subprocess.Popen([*command, "--generations", "500"]) as process:
        wait_for(
            lambda: any(file.read_bytes().count(b"\n") >= lines for file in kept.glob("*.jsonl"))
        )
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    store = store_of(bundle)
    killed = store.read_bytes()
    whole_lines = killed[: killed.rfind(b"\n") + 1]
    assert open_bundle(bundle).manifest.operating_points == []
    reached = json.loads(whole_lines.splitlines()[-1])["generation"]
    arguments = ("--front", *FLOPS, "--generations", str(reached + 1), "--json")
    resumed = summary(tune(bundle, data, *arguments))
    assert store.read_bytes().startswith(whole_lines)
    other = Path(shutil.copytree(folder / "exits", tmp_path / "other" / "exits"))
    whole = summary(tune(other, data, *arguments))
    assert choices(whole) == choices(resumed)
    assert whole["configurations"] == resumed["configurations"]
    assert store.read_bytes() == store_of(other).read_bytes()


def choices(said: dict[str, Any]) -> list[Any]:
    """What does not depend on the clock."""
    return [
        (point["knobs"], point["quality"], point["cost"]["flops ratio"]) for point in said["points"]
    ]


def wait_for(reached: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to a process")
def test_ctrl_c_says_how_to_go_on(folder: Path, copied: Callable[[str], Path]) -> None:
    bundle = copied("exits")
    kept = bundle.with_name("exits.tune")
    # A shell starts background jobs with SIGINT ignored, and pytest may be one.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from effbert.runtime.commands import main\n"
        f"main(['tune', {str(bundle)!r}, '--data', {str(folder / 'data.csv')!r}, '--threads', '1', "
        "'--cost', 'flops', '--generations', '500'])"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as run:
        wait_for(lambda: any(file.read_bytes() for file in kept.glob("*.jsonl")))
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert said.strip() == "Interrupted; the same command goes on from here."


def test_a_second_call_evaluates_no_configuration_again(
    folder: Path, copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, data = copied("exits"), folder / "data.csv"
    arguments = ("--front", *FLOPS, "--generations", "1", "--json")
    first = summary(tune(bundle, data, *arguments))
    monkeypatch.setattr(length_search._Judge, "outcomes", None)
    assert choices(summary(tune(bundle, data, *arguments))) == choices(first)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--latency-ms", "5", "--cost", "flops"), "--latency-ms is the time of a text alone"),
        (("--plot", "x.txt"), "expected a name that ends in .svg"),
        (("--plot", "/no/folder/x.svg"), "there is no folder /no/folder"),
        (("--generations", "-1"), "-1 is not in the range"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: tuple[str, ...], message: str, folder: Path, copied: Callable[[str], Path]
) -> None:
    bundle = copied("alone")
    result = tune(bundle, folder / "data.csv", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr.strip().splitlines()[-1]
    assert not bundle.with_name("alone.tune").exists()


def test_the_old_command_says_what_it_has_become() -> None:
    result = CliRunner().invoke(effbert, ["search", "bundle", "--data", "data.csv"])
    assert result.exit_code == 2
    assert "search is now: effbert tune BUNDLE --data FILE --front." in result.stderr


def test_the_front_is_drawn(folder: Path, copied: Callable[[str], Path], tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    arguments = (*FLOPS, "--generations", "0", "--plot", str(plot))
    result = tune(copied("alone"), folder / "data.csv", *arguments)
    assert result.exit_code == 0, result.output
    assert plot.read_text().startswith("<?xml")

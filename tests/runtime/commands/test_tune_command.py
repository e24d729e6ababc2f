"""`effbert tune` on small bundles: what it chooses, what it writes, and how it refuses."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bundle_edits import at, edit_manifest
from effbert.runtime import Session
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.commands import effbert
from effbert.runtime.points import one_pass
from tiny_bundle import build_tiny_bundle
from tune_command import summary, texts, tune

COUNT = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles and, for each, texts with the labels of full depth, one in ten wrong."""
    folder = tmp_path_factory.mktemp("tune")
    draw = random.Random(0)
    for name in ("entropy", "patience"):
        build_tiny_bundle(folder / name, policy=name)
        with Session(folder / name, threads=1) as session:
            answers = session(texts(COUNT))
        rows = [
            {"text": answer_text, "label": (answer.label_id + (draw.random() < 0.1)) % 3}
            for answer_text, answer in zip(texts(COUNT), answers, strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(folder / name, tmp_path / name))


def answered(bundle: Path, data: Path, point: str | None) -> tuple[float, float]:
    """Percent right and mean layer, as a session says at an operating point."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    with Session(bundle, threads=1, operating_point=point) as session:
        answers = session([row["text"] for row in rows])
    right = [answer.label_id == row["label"] for answer, row in zip(answers, rows, strict=True)]
    return 100 * float(np.mean(right)), float(np.mean([answer.exit_layer for answer in answers]))


@pytest.mark.parametrize("name", ["entropy", "patience"])
def test_points_are_what_they_say(name: str, folder: Path, copied: Callable[[str], Path]) -> None:
    bundle, data = copied(name), folder / f"{name}.jsonl"
    edit_manifest(bundle, at("operating_points", [{"name": "mine", "knobs": {}, "data": "none"}]))
    wanted = ("--max-loss", "0", "--max-loss", "20", "--quality", "0.7", "--speedup", "1")
    said = summary(tune(bundle, data, *wanted, "--json"))
    mine, *points = open_bundle(bundle).manifest.operating_points
    assert mine.name == "mine"
    assert [point.name for point in points] == ["loss-0", "loss-20", "quality-0.7", "speedup-1"]
    assert said["unmet"] == {}
    full = answered(bundle, data, None)[0]
    for point in points:
        quality, layer = answered(bundle, data, point.name)
        assert point.quality["accuracy"] == pytest.approx(quality, abs=0.01)
        assert point.quality["full accuracy"] == pytest.approx(full, abs=0.01)
        assert point.cost["mean exit layer"] == pytest.approx(layer, abs=0.001)
    assert points[0].quality["accuracy"] >= full - 0.01
    assert points[1].quality["accuracy"] >= full - 20
    assert points[1].cost["mean exit layer"] < points[0].cost["mean exit layer"]


def test_without_labels_answers_are_compared_with_full_depth(
    folder: Path, copied: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle, data = copied("entropy"), tmp_path / "texts.csv"
    data.write_text("sentence\n" + "\n".join(texts(60)))
    [point] = summary(tune(bundle, data, "--max-loss", "5", "--json"))["points"]
    assert point["quality"]["full agreement"] == 100
    assert 95 <= point["quality"]["agreement"] <= 100


def test_a_guarantee_is_stored_and_shown(folder: Path, copied: Callable[[str], Path]) -> None:
    bundle, data = copied("entropy"), folder / "entropy.jsonl"
    said = summary(tune(bundle, data, "--guarantee", "0.9", "--risk", "10%", "--json"))
    [point] = said["points"]
    assert point["guarantee"] == {"risk": 0.1, "confidence": 0.9}
    shown = CliRunner().invoke(effbert, ["inspect", str(bundle)])
    assert "at most 0.1 with probability 0.9" in shown.stdout.replace("\n", " ")


def test_what_cannot_be_kept_is_said(folder: Path, copied: Callable[[str], Path]) -> None:
    bundle, data = copied("entropy"), folder / "entropy.jsonl"
    wanted = ("--quality", "0.999", "--latency-ms", "1e-9", "--guarantee", "0.99", "--risk", "0.1%")
    said = summary(tune(bundle, data, *wanted, "--json"))
    assert said["points"] == []
    assert set(said["unmet"]) == {"quality-0.999", "latency-1e-09", "guaranteed"}
    assert "it takes 4603" in said["unmet"]["guaranteed"]
    assert open_bundle(bundle).manifest.operating_points == []


def test_a_second_call_runs_no_example_again(
    folder: Path, copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, data = copied("entropy"), folder / "entropy.jsonl"
    first = summary(tune(bundle, data, "--max-loss", "1", "--json"))
    monkeypatch.setattr(one_pass, "_answered", None)
    second = summary(tune(bundle, data, "--max-loss", "1", "--json"))
    assert second["points"][0]["knobs"] == first["points"][0]["knobs"]


def test_other_data_or_a_damaged_piece_is_run_again(
    folder: Path, copied: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle, data = copied("entropy"), tmp_path / "data.jsonl"
    shutil.copy(folder / "entropy.jsonl", data)
    expected = summary(tune(bundle, data, "--max-loss", "1", "--json"))["points"][0]["quality"]
    [piece] = bundle.with_name("entropy.tune").rglob("*.npz")
    piece.write_bytes(piece.read_bytes()[:-100])
    again = summary(tune(bundle, data, "--max-loss", "1", "--json"))["points"][0]["quality"]
    assert again == expected
    data.write_text("\n".join(data.read_text().splitlines()[:100]))
    assert summary(tune(bundle, data, "--max-loss", "1", "--json"))["examples"] == 100


def test_bad_lines_are_refused_or_left_out(
    folder: Path, copied: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle, data = copied("entropy"), tmp_path / "data.jsonl"
    lines = (folder / "entropy.jsonl").read_text().splitlines()
    data.write_text(
        "\n".join([*lines[:50], '{"text": "a film", "label": "wonderful"}', *lines[50:]])
    )
    refused = tune(bundle, data)
    assert refused.exit_code == 2
    assert "line 51: label 'wonderful' is none of the model's" in refused.stderr
    said = summary(tune(bundle, data, "--skip-bad", "--max-loss", "1", "--json"))
    assert said["skipped"] == [51]
    assert said["examples"] == COUNT


def test_a_point_becomes_what_runs_without_knobs(
    folder: Path, copied: Callable[[str], Path]
) -> None:
    bundle, data = copied("entropy"), folder / "entropy.jsonl"
    wanted = ("--max-loss", "0", "--max-loss", "20", "--as-default", "loss-20")
    assert tune(bundle, data, *wanted).exit_code == 0
    assert answered(bundle, data, None) == answered(bundle, data, "loss-20")
    assert tune(bundle, data, "--max-loss", "0", "--as-default", "loss-0").exit_code == 0
    assert answered(bundle, data, None) == answered(bundle, data, "loss-0")


def test_a_default_that_does_not_exist_is_refused_and_one_not_chosen_changes_nothing(
    folder: Path, copied: Callable[[str], Path]
) -> None:
    bundle, data = copied("entropy"), folder / "entropy.jsonl"
    before = open_bundle(bundle).manifest.knobs
    refused = tune(bundle, data, "--max-loss", "1", "--as-default", "loss-2")
    assert refused.exit_code == 2
    assert "there is no such operating point" in refused.stderr
    unmet = tune(bundle, data, "--quality", "0.999", "--as-default", "quality-0.999")
    assert unmet.exit_code == 2
    assert "so the defaults stay" in unmet.stderr
    assert open_bundle(bundle).manifest.knobs == before


def without_tokenizer(manifest: dict[str, Any]) -> None:
    manifest["tokenizer"] = None
    for row in manifest["golden"]:
        row["text"] = None


@pytest.mark.parametrize(
    "content, options, reason",
    [
        ('{"words": "a"}', (), "name it with --text COLUMN"),
        ('{"text": "a"}', ("--label", "right"), "has no column 'right'"),
        ('{"text": "a"}', ("--metric", "f1"), "needs labels"),
        ('{"text": "a", "label": 0}', ("--metric", "pearson"), "does not fit this task; choose"),
        ('{"text": "a", "label": 0}', ("--risk", "200%"), "is no share"),
        ("", (), "holds no rows"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    content: str,
    options: tuple[str, ...],
    reason: str,
    copied: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    bundle, data = copied("entropy"), tmp_path / "data.jsonl"
    data.write_text(content)
    before = (bundle / "effbert.json").read_bytes()
    refused = tune(bundle, data, *options)
    assert refused.exit_code == 2
    assert reason in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (bundle / "effbert.json").read_bytes() == before


def test_a_bundle_without_tokenizer_is_refused(folder: Path, copied: Callable[[str], Path]) -> None:
    bundle = copied("entropy")
    edit_manifest(bundle, without_tokenizer)
    refused = tune(bundle, folder / "entropy.jsonl")
    assert refused.exit_code == 2
    assert "without a tokenizer cannot be tuned" in refused.stderr


def test_a_killed_pass_goes_on_and_ends_as_a_whole_one(
    folder: Path, copied: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle, data = copied("entropy"), tmp_path / "data.jsonl"
    lines = (folder / "entropy.jsonl").read_text().splitlines()
    data.write_text("\n".join(lines * 12))  # 5 pieces
    kept = bundle.with_name("entropy.tune")
    effbert_command = Path(sys.executable).with_name("effbert")
    command = [effbert_command, "tune", bundle, "--data", data, "--threads", "1"]
    before = (bundle / "effbert.json").read_bytes()
    with subprocess.Popen(command) as process:
        while not (written := [*kept.rglob("*.npz")]) and process.poll() is None:
            time.sleep(0.005)
        process.kill()
    assert written
    assert (bundle / "effbert.json").read_bytes() == before
    first = min(written)
    stamp = first.stat().st_mtime_ns
    resumed = summary(tune(bundle, data, "--max-loss", "1", "--json"))
    assert first.stat().st_mtime_ns == stamp
    shutil.rmtree(kept)
    whole = summary(tune(bundle, data, "--max-loss", "1", "--json"))
    assert resumed["examples"] == whole["examples"] == 12 * COUNT
    for one, other in zip(resumed["points"], whole["points"], strict=True):
        assert (one["knobs"], one["quality"]) == (other["knobs"], other["quality"])


def test_two_processes_do_not_lose_each_others_points(
    folder: Path, copied: Callable[[str], Path]
) -> None:
    bundle = copied("entropy")
    code = """
import sys
from pathlib import Path
from effbert.runtime.bundle.manifest import OperatingPoint
from effbert.runtime.points.stored_points import replace_points
for number in range(20):
    point = OperatingPoint(name=f"{sys.argv[2]}-{number}", knobs={}, data="none")
    replace_points(Path(sys.argv[1]), [point], lambda name: False)
"""
    command = [sys.executable, "-c", code, str(bundle)]
    both = [subprocess.Popen([*command, name]) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    assert len(open_bundle(bundle).manifest.operating_points) == 40

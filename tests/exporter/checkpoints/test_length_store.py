"""`store.tsv`, the search of a Length-Adaptive Transformer, becomes operating points."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from checkpoints import write_deebert
from effbert.exporter import export
from effbert.exporter.checkpoints.length_store import (
    MAX_BYTES,
    MOST,
    Configuration,
    best_configurations,
    read_store,
)
from effbert.exporter.encoders.length_drop import lengths_knob
from effbert.runtime import Session
from effbert.runtime.errors import CheckpointError
from export_command import run_command, sentence
from families import write_family
from systems.exported import inspect
from systems.length_rows import batch, rows

TASK = "text-classification"
SEARCHED = [
    ((20, 10), 4000, 88.5),
    ((8, 3), 1500, 80.25),
    ((8, 4), 1600, 79.0),  # dearer and worse
    ((12, 9), 3000, 86.0),
    ((12, 8), 3000, 84.0),  # as dear and worse
]
FRONT = [[8, 3], [12, 9], [20, 10]]


def write_store(folder: Path, searched: Sequence[tuple[Any, Any, Any]] = SEARCHED) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [
        "\t".join(map(str, (gene, macs, score, place % 3, ((9, 9), (8, 8)) if place else None)))
        for place, (gene, macs, score) in enumerate(searched)
    ]
    path = folder / "store.tsv"
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "checkpoint"
    write_family(folder, "bert", TASK)
    write_store(folder)
    return folder


@pytest.mark.slow
def test_the_front_becomes_operating_points(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle", "--length-adaptive")
    assert outcome.code == 0, outcome.err
    assert "Note: 3 of the 5 length configurations in store.tsv are operating points" in outcome.out
    points = inspect(tmp_path / "bundle")["operating_points"]
    assert [point["name"] for point in points] == ["store-1", "store-2", "store-3"]
    assert [point["knobs"]["lengths"] for point in points] == FRONT
    assert points[0]["quality"] == {"score": 80.25}
    assert points[0]["cost"] == {"multiply-adds": 1500}
    texts = batch(rows(10))
    for point, lengths in zip(points, FRONT, strict=True):
        chosen = Session(tmp_path / "bundle", operating_point=point["name"]).run(texts)
        named = Session(tmp_path / "bundle").run(texts, {"lengths": lengths})
        assert (chosen.logits == named.logits).all()


@pytest.mark.parametrize(
    "options, noted",
    [
        ({}, True),
        ({"retention": [9, 4]}, False),
        ({"length_adaptive": True, "layers": "1"}, False),
    ],
)
def test_the_search_is_left_out_where_it_does_not_apply(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], noted: bool
):
    report = export(checkpoint, tmp_path / "bundle", dry_run=True, **options)
    assert not report.plan.operating_points
    assert any("--length-adaptive exports it" in note for note in report.notes) == noted


def test_the_last_round_of_a_search_that_was_kept_by_rounds_is_read(
    checkpoint: Path, tmp_path: Path
):
    folder = shutil.copytree(checkpoint, tmp_path / "rounds")
    (folder / "search").mkdir()
    stored = (folder / "store.tsv").rename(folder / "search" / "store-iter10.tsv")
    (folder / "search" / "store-iter9.tsv").write_text("(9, 5)\t100\tof a round before\n")
    report = export(folder, tmp_path / "bundle", dry_run=True, length_adaptive=True)
    assert [point.knobs["lengths"] for point in report.plan.operating_points] == FRONT
    assert any(stored.name in note for note in report.notes)


def test_a_search_of_all_layers_says_nothing_of_fewer(tmp_path: Path):
    checkpoint = write_deebert(tmp_path / "checkpoint", layers=2, tokenizer="fast")
    write_store(checkpoint)
    for exits, found in (([1, 2], FRONT), ([1], [])):
        options = {"length_adaptive": True, "dry_run": True, "exits": exits}
        points = export(checkpoint, tmp_path / "out", **options).plan.operating_points
        assert [point.knobs["lengths"] for point in points] == found


def test_a_long_front_is_thinned_and_keeps_its_ends():
    found = [Configuration((9, 5), cost, cost / 10) for cost in range(1, 1001)]
    kept = best_configurations(found)
    assert len(kept) == MOST
    assert (kept[0], kept[-1]) == (found[0], found[-1])


@pytest.mark.parametrize(
    "line, message",
    [
        ("(9, 5)\t100", "line 2: expected a tuple of lengths, multiply-adds and a score"),
        ("(9, 5) 100 0.5", "line 2: expected a tuple"),
        ("[9, 5]\t100\t0.5", "line 2: expected a tuple"),
        ("__import__('os')\t100\t0.5", "line 2: expected a tuple"),
        ("(" * 5000 + "\t100\t0.5", "line 2: expected a tuple"),
        ("(9, 5)\tmany\t0.5", "line 2: expected a tuple"),
        ("(9, 5)\t100\tnan", "line 2: expected a tuple"),
        ("", "line 2: expected a tuple"),
        ("(9, 5, 2)\t100\t0.5", "line 2: Knob 'lengths': got 3 values, expected one or 2"),
        ("(5, 9)\t100\t0.5", "line 2: Knob 'lengths': got 9 for layer 2 after 5"),
        ("(9, 0)\t100\t0.5", "line 2: Knob 'lengths': got 0"),
        ("(99999, 5)\t100\t0.5", "line 2: Knob 'lengths': got 99999"),
    ],
)
def test_lines_that_no_search_writes_are_refused(tmp_path: Path, line: str, message: str):
    path = write_store(tmp_path, SEARCHED[:1])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(CheckpointError, match=message.replace("(", r"\(")):
        read_store(path, lengths_knob(2))


def test_a_store_without_lines_or_of_another_kind_is_refused(tmp_path: Path):
    path = write_store(tmp_path, [])
    with pytest.raises(CheckpointError, match="is empty"):
        read_store(path, lengths_knob(2))
    path.write_bytes(bytes(range(256)))
    with pytest.raises(CheckpointError, match="line 1: expected a tuple"):
        read_store(path, lengths_knob(2))
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CheckpointError, match="is larger than 4 MiB"):
        read_store(path, lengths_knob(2))


def test_the_command_refuses_a_bad_store_in_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    write_family(tmp_path / "c", "bert", TASK)
    write_store(tmp_path / "c", [((9, 5, 3), 100, 0.5)])
    outcome = run_command(capfd, tmp_path / "c", tmp_path / "bundle", "--length-adaptive")
    assert outcome.code == 2
    assert "got 3 values, expected one or 2" in sentence(outcome)
    assert not (tmp_path / "bundle").exists()

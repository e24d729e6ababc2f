"""What an export says when it worked, and when its segments differ from torch."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import trace_cache
from effbert.exporter import export, segments
from effbert.runtime import open_bundle
from export_command import run_command

Refused = Callable[..., str]
TABLES = ["effbert export", "Exits, compared with torch on"]

OURS = "effbert-"


class Writes:
    """Everything that was opened for writing or changed, once switched on."""

    def __init__(self) -> None:
        self.on = False
        self.paths: set[str] = set()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[0], str):
            flags = arguments[2] or 0
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.paths.add(os.path.abspath(arguments[0]))
        elif event in ("os.mkdir", "os.rename", "os.symlink", "os.link"):
            self.paths |= {os.path.abspath(os.fsdecode(arguments[0]))}


@pytest.fixture(scope="session")
def writes() -> Iterator[Writes]:
    """Audit hooks cannot be removed, only silenced."""
    hook = Writes()
    sys.addaudithook(hook)
    yield hook
    hook.on = False


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, pristine_deebert: Path) -> Path:
    """A bundle that was written without the command."""
    bundle = tmp_path_factory.mktemp("outcome") / "bundle"
    export(pristine_deebert, bundle)
    return bundle


def test_json_is_one_object_and_nothing_else(
    capfd: pytest.CaptureFixture[str], pristine_deebert: Path, tmp_path: Path, writes: Writes
) -> None:
    target = tmp_path / "bundle"
    writes.on = True
    outcome = run_command(capfd, pristine_deebert, target, "--json", "--knob", "threshold=0.25")
    writes.on = False
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads(outcome.out)
    assert report["bundle"] == str(target)
    assert report["written"] is True
    assert (report["format"], report["task"]) == ("deebert", "text-classification")
    assert report["exits"] == [1, 2, 3]
    assert report["knobs"] == {"threshold": 0.25}
    assert report["tokenizer"] is True
    assert len(report["parity"]["max_abs_diff"]) == 3
    assert max(report["parity"]["max_abs_diff"]) <= report["parity"]["atol"]
    bundle = open_bundle(target)
    assert report["size"] == bundle.verify_files()
    assert os.listdir(target.parent) == ["bundle"]
    outside = {path for path in writes.paths if not path.startswith(str(target.parent))}
    assert writes.paths > outside
    # torch makes a folder for what it compiles; our sessions one for the weights while they open.
    passing = tuple(str(Path(tempfile.gettempdir(), start)) for start in ("torchinductor_", OURS))
    passing += (str(trace_cache.FOLDER),)  # of the tests themselves
    assert {path for path in outside if not path.startswith(passing)} <= {os.devnull}
    assert not [path for path in outside if OURS in path and Path(path).exists()]


def test_no_place_on_this_machine_is_in_the_bundle(target: Path, pristine_deebert: Path) -> None:
    here = Path(__file__).parents[2]  # all tests
    names = [str(pristine_deebert.parent), str(Path.home()), sys.prefix, str(here)]
    for path in target.iterdir():
        data = path.read_bytes()
        assert not [name for name in names if name.encode() in data], path.name


@pytest.mark.slow
def test_a_replacement_prints_the_tables_and_nothing_else(
    capfd: pytest.CaptureFixture[str], pristine_plain: Path, target: Path
) -> None:
    outcome = run_command(capfd, pristine_plain, target, "--force")
    assert (outcome.code, outcome.err) == (0, "")
    titles = [line for line in outcome.out.splitlines() if line and "\t" not in line]
    assert [title[: len(start)] for title, start in zip(titles, TABLES, strict=True)] == TABLES
    assert "plain" in outcome.out
    open_bundle(target).verify_files()
    assert os.listdir(target.parent) == ["bundle"]


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--dry-run", "--json"]], ids=" ".join)
def test_a_dry_run_says_that_nothing_was_written(
    capfd: pytest.CaptureFixture[str], pristine_deebert: Path, tmp_path: Path, arguments: list[str]
) -> None:
    outcome = run_command(capfd, pristine_deebert, tmp_path / "bundle", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    if "--json" in arguments:
        report = json.loads(outcome.out)
        assert (report["written"], report["size"], report["parity"]) == (False, None, None)
    else:
        assert "dry run, nothing written" in outcome.out
    assert os.listdir(tmp_path) == []


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[ir.Model], None]], None]:
    """Let a pass at the end change the second segment."""

    def install(change: Callable[[ir.Model], None]) -> None:
        attach = segments.attach
        seen: list[ir.Model] = []

        def attach_and_change(model: ir.Model, *arguments: Any, **options: Any) -> Any:
            seen.append(model)
            if len(seen) == 2:
                change(model)
            return attach(model, *arguments, **options)

        monkeypatch.setattr(segments, "attach", attach_and_change)

    return install


def shift_a_bias(model: ir.Model) -> None:
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and list(tensor.shape) == [32] and "bias" in name:
            value.const_value = ir.tensor(tensor.numpy() + np.float32(0.01), name=name)
            return
    raise AssertionError("no bias found")


def test_a_segment_that_differs_from_torch_is_named(
    refused: Refused, spoil: Callable[..., None], pristine_deebert: Path, tmp_path: Path
) -> None:
    spoil(shift_a_bias)
    said = refused(pristine_deebert, tmp_path / "bundle", "--json", code=1)
    assert said.startswith("segment-01.onnx (exit after layer 2) differs from torch by ")
    assert "and 0.0001 of each number; nothing was written" in said

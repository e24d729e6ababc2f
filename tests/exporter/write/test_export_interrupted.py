"""Exports killed at any moment: a reader finds the old bundle, the new one or none."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from effbert.exporter.write.atomic import LEFTOVER, sweep, writing
from effbert.runtime import open_bundle
from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.errors import OutputExistsError
from export_command import contents
from tiny_bundle import build_tiny_bundle

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes to kill them")
RANDOM_KILLS = 20
CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}
Files = dict[str, bytes]


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a bundle."""
    return read(build_tiny_bundle(tmp_path_factory.mktemp("old"), seed=1))


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of another bundle."""
    return read(build_tiny_bundle(tmp_path_factory.mktemp("new"), seed=2, shared_weights=True))


def read(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(target: Path, files: Files, force: bool = True) -> None:
    """What an export does to the disk."""
    with writing(target) as writer:
        writer.write(MANIFEST_NAME, files[MANIFEST_NAME])
        for name, data in files.items():
            if name != MANIFEST_NAME:
                writer.write(name, data[: len(data) // 2], data[len(data) // 2 :])
        writer.write(MANIFEST_NAME, files[MANIFEST_NAME])
        writer.publish(force)


def in_child(work: Callable[[], None]) -> int:
    """Start `work` in a process of its own and return its id."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            work()
        finally:
            os._exit(0)
    return child


def killed(child: int) -> bool:
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def die_at(step: int, parent: Path) -> None:
    """Kill this process just before its `step`-th change to anything below `parent`."""
    seen = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in CHANGES and str(parent) in str(arguments[0]):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def check_survivors(target: Path, allowed: list[Files | None], new: Files) -> None:
    """The bundle is one of `allowed`; the next export tidies up."""
    if not target.exists():
        assert None in allowed or any(".old-" in path.name for path in target.parent.iterdir())
    else:
        open_bundle(target).verify_files()
        assert read(target) in allowed
    assert all(path == target or LEFTOVER.fullmatch(path.name) for path in target.parent.iterdir())
    sweep(target)
    assert os.listdir(target.parent) == ["bundle"] * target.exists()
    assert (read(target) if target.exists() else None) in allowed
    write(target, new)
    assert read(target) == new
    assert os.listdir(target.parent) == ["bundle"]


def test_killed_before_each_step_of_a_first_export(tmp_path: Path, new: Files) -> None:
    steps = 0
    while True:
        target = tmp_path / str(steps) / "bundle"
        target.parent.mkdir()

        def work(target: Path = target, step: int = steps + 1) -> None:
            die_at(step, target.parent)
            write(target, new)

        if not killed(in_child(work)):
            break
        check_survivors(target, [None, new], new)
        steps += 1
    assert steps >= len(new) + 3  # each file, the folder, the manifest again, the rename
    assert read(target) == new


def test_killed_before_each_step_of_a_replacement(tmp_path: Path, old: Files, new: Files) -> None:
    steps = 0
    found = []
    while True:
        target = tmp_path / str(steps) / "bundle"
        write(target, old)

        def work(target: Path = target, step: int = steps + 1) -> None:
            die_at(step, target.parent)
            write(target, new)

        if not killed(in_child(work)):
            break
        found.append(read(target) if target.exists() else None)
        check_survivors(target, [old, new], new)
        steps += 1
    assert steps >= len(old) + len(new) + 4
    assert old in found
    assert new in found
    assert None in found  # between the two renames, healed by the next export
    assert read(target) == new


@pytest.mark.slow
@pytest.mark.parametrize("replaces", [False, True], ids=["first", "replacement"])
def test_killed_at_random_moments(tmp_path: Path, old: Files, new: Files, replaces: bool) -> None:
    target = tmp_path / "parent" / "bundle"
    moments = random.Random(7)
    started = time.perf_counter()
    write(target, old)
    duration = time.perf_counter() - started
    for _ in range(RANDOM_KILLS):
        for path in target.parent.iterdir():
            path.rename(tmp_path / f"used-{time.perf_counter_ns()}")
        if replaces:
            write(target, old)

        def work() -> None:
            write(target, new)

        child = in_child(work)
        time.sleep(moments.uniform(0, 1.5 * duration))
        os.kill(child, signal.SIGKILL)
        killed(child)
        check_survivors(target, [old, new] if replaces else [None, new], new)


# --- leftovers -----------------------------------------------------------------------------------


def dead_process() -> int:
    child = in_child(lambda: None)
    os.waitpid(child, 0)
    return child


def leftover(target: Path, kind: str, pid: int, files: Files) -> Path:
    folder = target.parent / f".{target.name}.{kind}-{pid}-0123456789abcdef"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_a_bundle_moved_aside_is_put_back(tmp_path: Path, old: Files) -> None:
    target = tmp_path / "bundle"
    leftover(target, "old", dead_process(), old)
    sweep(target)
    assert read(target) == old
    assert os.listdir(tmp_path) == ["bundle"]


def test_a_bundle_that_was_put_back_is_not_replaced_unasked(
    tmp_path: Path, old: Files, new: Files
) -> None:
    target = tmp_path / "bundle"
    leftover(target, "old", dead_process(), old)
    with pytest.raises(OutputExistsError, match="pass --force"):
        write(target, new, force=False)
    assert read(target) == old
    assert os.listdir(tmp_path) == ["bundle"]


def test_process_ids_that_were_used_again_do_not_protect_leftovers(
    tmp_path: Path, old: Files
) -> None:
    target = tmp_path / "bundle"
    leftover(target, "tmp", os.getpid(), old)
    leftover(target, "tmp", 10**30, old)
    sweep(target)
    assert os.listdir(tmp_path) == []


def test_folders_of_others_are_left_alone(tmp_path: Path, old: Files) -> None:
    target = tmp_path / "bundle"
    leftover(target, "tmp", os.getppid(), old)  # alive
    leftover(tmp_path / "bundle2", "tmp", dead_process(), old)
    (tmp_path / ".bundle.tmp-notes").mkdir()
    (tmp_path / ".bundle.old").mkdir()
    before = contents(tmp_path)
    sweep(target)
    assert contents(tmp_path) == before


def test_two_exports_of_one_process_do_not_disturb_each_other(
    tmp_path: Path, old: Files, new: Files
) -> None:
    with writing(tmp_path / "bundle") as first:
        for name, data in old.items():
            first.write(name, data)
        write(tmp_path / "bundle", new)
        assert read(tmp_path / "bundle") == new
        first.publish(force=True)
    assert read(tmp_path / "bundle") == old
    assert os.listdir(tmp_path) == ["bundle"]


def test_names_of_leftovers_say_whose_they_are(tmp_path: Path) -> None:
    with writing(tmp_path / "a.b-1") as writer:
        match = LEFTOVER.fullmatch(writer.folder.name)
        assert isinstance(match, re.Match)
        assert (match["target"], match["kind"], match["pid"]) == ("a.b-1", "tmp", str(os.getpid()))
    assert os.listdir(tmp_path) == []

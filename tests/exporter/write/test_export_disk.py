"""Disks that are full or refuse: exit code 1, the sizes in the sentence, nothing left behind."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from effbert.exporter.write import atomic as write_module
from effbert.exporter.write.atomic import check_space, writing
from effbert.runtime import open_bundle
from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.errors import ResourceError
from export_command import contents
from tiny_bundle import build_tiny_bundle

Refused = Callable[..., str]
Files = dict[str, bytes]
FREE = r"(\d[\d,]* bytes|[\d.,]+ MB) are free in /"
SIZES = rf"it needs (\d[\d,]* bytes|[\d.,]+ MB) and {FREE}"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a bundle, the manifest last."""
    folder = build_tiny_bundle(tmp_path_factory.mktemp("files"), shared_weights=True)
    names = sorted(os.listdir(folder), key=lambda name: name == MANIFEST_NAME)
    return {name: (folder / name).read_bytes() for name in names}


def export(target: Path, files: Files) -> None:
    """What an export does to the disk."""
    with writing(target) as writer:
        for name, data in files.items():
            writer.write(name, data[: len(data) // 2], data[len(data) // 2 :])
        writer.publish(force=True)


def failure_of(work: Callable[[], None]) -> ResourceError | None:
    try:
        work()
    except ResourceError as error:
        return error
    return None


class Disk:
    """Fails at the `fails`-th call that changes anything."""

    def __init__(self, fails: int, error: int) -> None:
        self.left = fails
        self.error = error

    def failing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(self.error, os.strerror(self.error), "somewhere")
            return function(*arguments, **options)

        return call

    def open(self, path: Path, mode: str) -> Any:
        file = open(path, mode)  # noqa: SIM115  # the caller closes it
        if "w" not in mode:
            return file
        return _File(file, self.failing(file.write))


class _File:
    def __init__(self, file: Any, write: Callable[..., Any]) -> None:
        self.file, self.write = file, write

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def break_disk(patch: pytest.MonkeyPatch, disk: Disk) -> None:
    patch.setattr(Path, "open", lambda path, mode="r": disk.failing(disk.open)(path, mode))
    patch.setattr(write_module.os, "fsync", disk.failing(os.fsync))
    for name in ("mkdir", "rename"):
        patch.setattr(Path, name, disk.failing(getattr(Path, name)))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=os.strerror)
@pytest.mark.parametrize("replaces", [False, True], ids=["first", "replacement"])
def test_a_disk_that_fails_at_any_call(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: Files,
    error: int,
    replaces: bool,
) -> None:
    target = tmp_path / "deep" / "deeper" / "bundle"
    if replaces:
        export(target, {MANIFEST_NAME: files[MANIFEST_NAME], "old": b"old"})
    before = contents(tmp_path)
    for calls in count(1):
        with monkeypatch.context() as patch:
            break_disk(patch, Disk(calls, error))
            failure = failure_of(lambda: export(target, files))
        if failure is None:
            break
        assert failure.exit_code == 1
        assert os.strerror(error) in str(failure)
        assert error == errno.EIO or re.search(FREE, str(failure)), failure
        assert contents(tmp_path) == before
    assert calls >= 4 * len(files)  # open, two writes and a flush each
    open_bundle(target).verify_files()
    assert os.listdir(target.parent) == ["bundle"]


def test_the_sentence_names_the_file_and_both_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_disk(monkeypatch, Disk(4, errno.ENOSPC))
    free = shutil.disk_usage(tmp_path)._replace(free=1234)
    monkeypatch.setattr(write_module.shutil, "disk_usage", lambda path: free)
    with pytest.raises(ResourceError) as caught, writing(tmp_path / "bundle") as writer:
        writer.write("weights.bin", bytes(3_000_000), bytes(500_000))
    said = str(caught.value)
    assert said.startswith(
        "weights.bin does not fit (No space left on device): it needs 3.5 MB and 1,234 bytes are "
        f"free in {tmp_path}"
    )
    assert said.endswith("; free some space or choose another place.")


def test_too_little_space_is_told_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(write_module.shutil, "disk_usage", lambda path: free)
    check_space(tmp_path / "new" / "bundle", 900_000)
    with pytest.raises(ResourceError, match=r"needs about 2\.2 MB, but only 1\.0 MB are free"):
        check_space(tmp_path / "new" / "bundle", 2_000_000)
    with pytest.raises(ResourceError, match="free some space or choose another place"):
        check_space(tmp_path / "new" / "bundle", 950_000)


@pytest.fixture
def largest_file() -> Iterator[int]:
    """Limits how large files may become; Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield 1 << 16
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_files_larger_than_the_limit_of_the_process(tmp_path: Path, largest_file: int) -> None:
    with pytest.raises(ResourceError, match=r"does not fit \(File too large\): it needs 0\.1 MB"):
        export(tmp_path / "bundle", {"small": b"small", "large": bytes(2 * largest_file)})
    assert os.listdir(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "effbert-test", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_while_writing(small_disk: Path, files: Files) -> None:
    target = small_disk / "bundle"
    export(target, files)
    before = contents(small_disk)
    with pytest.raises(ResourceError, match=SIZES):
        export(target, files | {"a": bytes(600_000), "b": bytes(600_000)})
    assert contents(small_disk) == before
    export(target, files)


def test_an_export_to_a_disk_that_is_too_small(
    refused: Refused, small_disk: Path, pristine_plain: Path
) -> None:
    (small_disk / "ballast").write_bytes(bytes(950_000))
    said = refused(pristine_plain, small_disk / "deep" / "bundle", code=1)
    assert re.search(r"needs about .* but only .* free on that disk", said)

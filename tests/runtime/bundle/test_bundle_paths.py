"""Names stay inside the folder, archives and other things get a clear word."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle_edits import SEGMENT, edit_manifest
from effbert.runtime import open_bundle
from effbert.runtime.bundle.paths import name_problem, open_file
from effbert.runtime.errors import BundleError, IntegrityError, ManifestError, PathError
from hostile_bundles import HOSTILE


def test_the_table_is_long_enough() -> None:
    assert len(set(HOSTILE)) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_by_the_manifest_and_by_open(bundle: Path, name: str) -> None:
    def rename(manifest: dict) -> None:
        manifest["files"][name] = manifest["files"].pop(SEGMENT)
        manifest["segments"][0]["file"] = name

    before = sorted(bundle.parent.rglob("*"))
    edit_manifest(bundle, rename)
    with pytest.raises(ManifestError):
        open_bundle(bundle)
    with pytest.raises(PathError):
        open_file(bundle, name)
    assert sorted(bundle.parent.rglob("*")) == before


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20) | st.text("./\\ab\0C:~", max_size=12))
def test_a_name_is_refused_or_lies_directly_in_the_folder(pristine: Path, name: str) -> None:
    try:
        os.close(open_file(pristine, name))
    except (PathError, IntegrityError):
        return
    assert Path(name).name == name
    assert (pristine / name).resolve().parent == pristine.resolve()


@pytest.mark.parametrize("name", ["a", "A-b_c.1", "segment-00.onnx", "console", "0", "b" * 128])
def test_plain_names_are_allowed(name: str) -> None:
    assert name_problem(name) is None


def test_names_that_differ_in_case_only_are_refused(bundle: Path) -> None:
    def add(manifest: dict) -> None:
        manifest["files"][SEGMENT.upper()] = manifest["files"][SEGMENT]

    edit_manifest(bundle, add)
    with pytest.raises(ManifestError, match="upper and lower case"):
        open_bundle(bundle)


def test_the_manifest_cannot_list_itself(bundle: Path) -> None:
    entry = {"size": 1, "sha256": "0" * 64}
    edit_manifest(bundle, lambda manifest: manifest["files"].update({"effbert.json": entry}))
    with pytest.raises(ManifestError, match="the manifest itself"):
        open_bundle(bundle)


def test_a_folder_in_place_of_a_file_is_refused(bundle: Path) -> None:
    (bundle / SEGMENT).unlink()
    (bundle / SEGMENT).mkdir()
    with pytest.raises(PathError, match="not a regular file"):
        open_bundle(bundle)


def test_a_named_pipe_is_refused_without_waiting(bundle: Path) -> None:
    (bundle / SEGMENT).unlink()
    os.mkfifo(bundle / SEGMENT)
    with pytest.raises(PathError, match="not a regular file"):
        open_bundle(bundle)


def test_a_link_that_appears_after_opening_is_refused(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    shutil.move(bundle / SEGMENT, tmp_path / "moved")
    (bundle / SEGMENT).symlink_to(tmp_path / "moved")
    with pytest.raises(PathError):
        opened.read(SEGMENT)


def test_the_folder_itself_may_be_reached_through_a_link(bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(bundle, target_is_directory=True)
    assert open_bundle(link).verify_files() > 0


def test_a_relative_path_stays_valid_when_the_process_moves(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.parent)
    opened = open_bundle(bundle.name)
    monkeypatch.chdir("/")
    assert opened.verify_files() > 0


def test_no_descriptor_is_left_open(bundle: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (bundle / SEGMENT).unlink()
    os.mkfifo(bundle / SEGMENT)
    for _ in range(5):
        with pytest.raises(PathError):
            open_bundle(bundle)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "name, message",
    [
        ("none", "There is no bundle"),
        ("bundle.tar", "is an archive; unpack it"),
        ("bundle.tar.gz", "is an archive; unpack it"),
        ("bundle.zip", "is an archive; unpack it"),
        ("model.onnx", "is not a folder"),
        ("empty", "holds no effbert.json"),
    ],
)
def test_what_is_no_bundle_is_explained(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    if name not in ("none", "empty"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BundleError, match=message):
        open_bundle(tmp_path / name)

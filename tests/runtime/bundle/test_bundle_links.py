"""Links are followed in the folder of a bundle and the cache it belongs to, nowhere else."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle_edits import SEGMENT
from effbert.runtime import Session, open_bundle
from effbert.runtime.bundle.folder import replace_manifest
from effbert.runtime.errors import BundleError, IntegrityError, PathError
from hostile_bundles import OUT, absolutely, lead

LISTED = [SEGMENT, "tokenizer.json", "weights.bin", "effbert.json"]


def as_hub(bundle: Path, folder: Path) -> Path:
    """As the hub's client caches it."""
    model = folder / "models--org--name"
    snapshot = model / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (model / "blobs").mkdir()
    for number, file in enumerate(sorted(bundle.iterdir())):
        shutil.copy(file, model / "blobs" / f"{number:064x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:064x}")
    return snapshot


def as_hub_folder(bundle: Path, folder: Path) -> Path:
    """The same in a folder of its repository."""
    snapshot = as_hub(bundle, folder)
    inner = snapshot / "onnx"
    inner.mkdir()
    for file in [*snapshot.iterdir()]:
        if file.is_symlink():
            (inner / file.name).symlink_to(f"../{os.readlink(file)}")
            file.unlink()
    return inner


def as_volume(bundle: Path, folder: Path) -> Path:
    """As Kubernetes mounts a ConfigMap."""
    volume = folder / "volume"
    shutil.copytree(bundle, volume / "..2026_11_30_05_00_00.1")
    (volume / "..data").symlink_to("..2026_11_30_05_00_00.1")
    for file in bundle.iterdir():
        (volume / file.name).symlink_to(f"..data/{file.name}")
    return volume


def as_hard_links(bundle: Path, folder: Path) -> Path:
    linked = folder / "linked"
    linked.mkdir()
    for file in bundle.iterdir():
        os.link(file, linked / file.name)
    return linked


def as_store(bundle: Path, folder: Path) -> Path:
    """Contents in a folder below, names are links to links, one of them absolute."""
    store = folder / "store"
    shutil.copytree(bundle, store / ".contents")
    for file in bundle.iterdir():
        (store / f".{file.name}").symlink_to(f"./.contents//../.contents/{file.name}")
        (store / file.name).symlink_to(store / f".{file.name}")
    return store


def as_named_link(bundle: Path, folder: Path) -> Path:
    (folder / "current").symlink_to(bundle, target_is_directory=True)
    return folder / "current"


WAYS = [as_hub, as_hub_folder, as_volume, as_hard_links, as_store, as_named_link]


@pytest.mark.parametrize("deliver", WAYS)
def test_a_bundle_opens_as_it_is_delivered(
    pristine: Path, tmp_path: Path, engine: str, deliver: Callable[[Path, Path], Path]
) -> None:
    folder = deliver(shutil.copytree(pristine, tmp_path / "made"), tmp_path.resolve())
    assert open_bundle(folder).verify_files() > 0
    with Session(folder, engine, threads=1) as session:
        assert session(["good film"])[0].label == "positive"


@pytest.mark.parametrize("deliver", [as_hub, as_volume, as_hard_links])
def test_what_a_link_leads_to_is_checked(
    pristine: Path, tmp_path: Path, deliver: Callable[[Path, Path], Path]
) -> None:
    folder = deliver(shutil.copytree(pristine, tmp_path / "made"), tmp_path)
    damaged = (folder / "weights.bin").resolve()
    damaged.write_bytes(bytes(damaged.stat().st_size))
    with pytest.raises(IntegrityError, match=r"weights.bin is damaged"):
        open_bundle(folder).read("weights.bin")


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("way", OUT)
def test_a_link_that_leads_out_is_refused(
    bundle: Path, name: str, way: Callable[[Path, str], None]
) -> None:
    way(bundle, name)
    with pytest.raises(PathError, match=f"{re.escape(name)} is a symbolic link that leads out"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "target",
    ["../../../models--org--other/blobs/x", "../../refs/main", "../other/effbert.json", "../../x"],
)
def test_in_a_hub_cache_only_blobs_of_the_same_model_are_read(
    pristine: Path, tmp_path: Path, target: str
) -> None:
    snapshot = as_hub(pristine, tmp_path)
    file = snapshot / target
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(pristine / "effbert.json", file)
    lead(snapshot, "effbert.json", target)
    with pytest.raises(PathError, match="leads out"):
        open_bundle(snapshot)


def test_blobs_beside_a_folder_of_another_name_are_no_cache(pristine: Path, tmp_path: Path) -> None:
    snapshot = as_hub(pristine, tmp_path)
    (tmp_path / "models--org--name").rename(tmp_path / "models")
    with pytest.raises(PathError, match="leads out"):
        open_bundle(tmp_path / "models" / snapshot.relative_to(tmp_path / "models--org--name"))


@pytest.mark.parametrize("name", LISTED)
def test_links_in_a_circle_are_refused(bundle: Path, name: str) -> None:
    lead(bundle, name, "other")
    (bundle / "other").symlink_to(name)
    with pytest.raises(PathError, match=f"{re.escape(name)} is a symbolic link .* circle"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", LISTED)
def test_a_link_to_nothing_is_a_missing_file(bundle: Path, name: str) -> None:
    lead(bundle, name, "nothing")
    with pytest.raises(IntegrityError, match=f"{re.escape(name)} links to a file that is missing"):
        open_bundle(bundle)


def test_a_link_to_a_folder_or_a_pipe_is_refused_without_waiting(bundle: Path) -> None:
    os.mkfifo(bundle / "pipe")
    (bundle / "inner").mkdir()
    for target in ("pipe", "inner", ".", "inner/.."):
        lead(bundle, SEGMENT, target)
        with pytest.raises(PathError):
            open_bundle(bundle)


def test_a_link_that_appears_after_opening_may_not_lead_out(bundle: Path) -> None:
    opened = open_bundle(bundle)
    absolutely(bundle, SEGMENT)
    with pytest.raises(PathError):
        opened.read(SEGMENT)


def test_a_folder_that_becomes_a_link_while_a_file_is_opened_is_refused(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = as_volume(pristine, tmp_path)
    opened = open_bundle(volume)
    real = os.open

    def exchanged(path: str, flags: int, **options: int) -> int:
        if str(path).startswith("..2026"):
            (volume / path).rename(tmp_path / "away")
            (volume / path).symlink_to(tmp_path / "away")
        return real(path, flags, **options)

    monkeypatch.setattr(os, "open", exchanged)
    monkeypatch.setattr(os, "supports_dir_fd", {exchanged})
    with pytest.raises(BundleError, match=r"cannot be opened|circle"):
        opened.read(SEGMENT)


def test_a_manifest_that_is_a_link_is_not_changed(pristine: Path, tmp_path: Path) -> None:
    opened = open_bundle(as_hub(pristine, tmp_path))
    with pytest.raises(BundleError, match=r"effbert.json is a link .*\(cp -rL\)"):
        replace_manifest(opened, opened.manifest)

"""Damaged files are refused before anything reads their content."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effbert.runtime import Session, open_bundle
from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.errors import BundleError, IntegrityError, PathError
from hostile_bundles import FILES, OTHER_SIZE, SAME_SIZE
from tiny_bundle import build_tiny_bundle


@pytest.mark.parametrize("damage", SAME_SIZE)
@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused_and_named(bundle: Path, name: str, damage: str) -> None:
    path = bundle / name
    path.write_bytes(SAME_SIZE[damage](path.read_bytes()))
    opened = open_bundle(bundle)
    with pytest.raises(IntegrityError, match=f"{name} is damaged: its sha256 is [0-9a-f]{{12}}, "):
        opened.read(name)
    with pytest.raises(IntegrityError, match=name):
        opened.verify_files()
    with pytest.raises(IntegrityError, match=name):
        Session(bundle)


@pytest.mark.parametrize("damage", OTHER_SIZE)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_size_is_refused_when_opening(
    bundle: Path, name: str, damage: str
) -> None:
    path = bundle / name
    data = path.read_bytes()
    path.write_bytes(OTHER_SIZE[damage](data))
    size = path.stat().st_size
    with pytest.raises(IntegrityError, match=rf"{name}.* has {size} bytes.* says {len(data)}"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        open_bundle(bundle)


def test_files_that_changed_places_are_refused(bundle: Path) -> None:
    first, second = bundle / "segment-01.onnx", bundle / "segment-02.onnx"
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    with pytest.raises(IntegrityError):
        Session(bundle)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.integers(0, 1 << 20), st.integers(1, 255))
def test_every_single_byte_counts(pristine: Path, name: str, position: int, change: int) -> None:
    opened = open_bundle(pristine)
    data = bytearray(opened.read(name))
    data[position % len(data)] ^= change
    copy = pristine.parent / f"copy-{os.getpid()}"
    copy.mkdir(exist_ok=True)
    (copy / name).write_bytes(data)
    with pytest.raises(IntegrityError):
        type(opened)(copy, opened.manifest).read(name)


def test_intact_files_are_read_unchanged(pristine: Path) -> None:
    opened = open_bundle(pristine)
    for name in FILES:
        assert opened.read(name) == (pristine / name).read_bytes()
    assert opened.verify_files() == sum((pristine / name).stat().st_size for name in FILES)


def test_files_that_are_not_listed_are_ignored_and_cannot_be_read(bundle: Path) -> None:
    (bundle / "segment_0.plan").write_bytes(b"an engine")
    opened = open_bundle(bundle)
    opened.verify_files()
    for name in ("segment_0.plan", MANIFEST_NAME):
        with pytest.raises(PathError, match="lists no file"):
            opened.read(name)


def test_a_file_changed_under_an_open_session_does_not_change_answers(bundle: Path) -> None:
    inputs = {"input_ids": [[2, 5, 18, 3]]}
    with Session(bundle) as session:
        before = session.run(inputs).logits.tolist()
        for name in FILES:
            with open(bundle / name, "r+b") as file:
                file.write(b"\xff" * (bundle / name).stat().st_size)
        assert session.run(inputs).logits.tolist() == before
        with pytest.raises(IntegrityError):
            session.bundle.read("weights.bin")


def test_a_bundle_of_another_seed_does_not_fit_this_manifest(bundle: Path, tmp_path: Path) -> None:
    other = build_tiny_bundle(tmp_path / "other", shared_weights=True, seed=1)
    (bundle / MANIFEST_NAME).write_bytes((other / MANIFEST_NAME).read_bytes())
    with pytest.raises(BundleError):
        Session(bundle)

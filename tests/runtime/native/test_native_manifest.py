"""The native reader of manifests gives the verdict of the Python reader."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from effbert.runtime.bundle.parse import MAX_MANIFEST_BYTES, parse_manifest
from effbert.runtime.bundle.paths import name_problem
from effbert.runtime.errors import ManifestError, VersionError
from manifest_mutations import WORDS, mutated_manifests, whole_manifests
from native_driver import Driver, RefusedError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return whole_manifests(tmp_path_factory.mktemp("bundles"))


def python_verdict(data: bytes) -> str | None:
    """What is wrong, or None."""
    try:
        parse_manifest(data)
    except (ManifestError, VersionError) as error:
        return str(error)
    return None


def native_verdict(driver: Driver, data: bytes) -> str | None:
    try:
        driver.ask(b"m", data)
    except RefusedError as error:
        return str(error)
    return None


def compare(driver: Driver, whole: list[Any], count: int, seed: int) -> tuple[int, int]:
    """Compare verdicts; how many were accepted and refused."""
    accepted = 0
    for data in mutated_manifests(whole, count, seed):
        python, native = python_verdict(data), native_verdict(driver, data)
        assert (python is None) == (native is None), (python, native, data)
        assert native is None or (native.endswith(".") and len(native) < 600), native
        accepted += native is None
    return accepted, count - accepted


def test_some_hundred_mutated_manifests_have_the_same_verdict(
    driver: Driver, whole: list[Any]
) -> None:
    accepted, refused = compare(driver, whole, 500, seed=0)
    assert accepted > 50
    assert refused > 200


@pytest.mark.slow
def test_twenty_thousand_mutated_manifests_have_the_same_verdict(
    sanitized: Driver, whole: list[Any]
) -> None:
    accepted, refused = compare(sanitized, whole, 20_000, seed=1)
    print(f"{accepted} accepted, {refused} refused, as in Python")
    assert accepted > 2000
    assert refused > 8000


def test_a_manifest_may_have_a_mebibyte_and_no_more(driver: Driver, whole: list[Any]) -> None:
    import json

    data = json.dumps(whole[0]).encode()
    for size in (MAX_MANIFEST_BYTES, MAX_MANIFEST_BYTES + 1):
        padded = data.ljust(size)
        assert (python_verdict(padded) is None) == (native_verdict(driver, padded) is None)
        assert (native_verdict(driver, padded) is None) == (size == MAX_MANIFEST_BYTES)


@pytest.mark.parametrize(
    "document",
    [b"[" * 16 + b"]" * 16, b"[" * 100_000, b'{"a":' * 100_000, b'{"x-a": 1, "x-a": 1}'],
    ids=["16 deep", "brackets", "braces", "a comment twice"],
)
def test_hostile_json_is_refused_in_a_sentence(driver: Driver, document: bytes) -> None:
    found = native_verdict(driver, document)
    assert found is not None
    assert found.startswith("effbert.json is not valid")
    assert len(found) < 300


@pytest.mark.parametrize("size", [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000, 70_001])
def test_hashes_are_those_of_hashlib(driver: Driver, size: int) -> None:
    data = bytes(k * 31 % 251 for k in range(size))
    assert driver.ask(b"h", data).decode() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "name",
    [*WORDS, "con", "CON.txt", "com0", "com10", "lpt9.a.b", "aux.", "console", "-a", ".a", "_a"],
)  # fmt: skip
def test_names_of_files_have_the_same_verdict(driver: Driver, name: str) -> None:
    assert driver.ask(b"n", name.encode()).decode() == (name_problem(name) or "")


def test_a_link_out_of_the_bundle_is_not_followed(driver: Driver, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_text("no")
    (folder / "inner" / "file").write_text("yes")
    links = {
        "in": "inner/file", "again": "in", "out": "../secret", "absolute": tmp_path / "secret",
        "circle": "circle", "folder": "inner", "nothing": "inner/none", "round": "../bundle/in",
    }  # fmt: skip
    for name, target in links.items():
        (folder / name).symlink_to(target)

    def read(name: str) -> str:
        try:
            return driver.ask(b"r", name.encode() + b"\0" + bytes(folder)).decode()
        except RefusedError as error:
            return str(error)

    assert read("in") == read("again") == read("round") == "yes"
    assert "leads out of the bundle" in read("out")
    assert "leads out of the bundle" in read("absolute")
    assert "leads in a circle" in read("circle")
    assert "is not a regular file" in read("folder")
    assert "links to a file that is missing" in read("nothing")
    assert read("none").startswith("none is missing")
    assert "device on Windows" in read("nul")

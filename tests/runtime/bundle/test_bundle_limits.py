"""Limits hold exactly, and what claims to be huge costs neither time nor memory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle_edits import SEGMENT, edit_manifest, edited
from effbert.runtime.bundle.parse import MAX_MANIFEST_BYTES, parse_manifest
from effbert.runtime.bundle.strict_json import MAX_DEPTH, read_json
from effbert.runtime.errors import ManifestError

HASH = "0" * 64


def grown(manifest: dict[str, Any], exits: int) -> None:
    """Repeats the middle segment until there are so many exits."""
    first, middle, last = manifest["segments"]
    manifest["segments"] = [first, *[middle] * (exits - 2), last]
    manifest.update(golden=[], parity=None)


def point(number: int) -> dict[str, Any]:
    return {"name": f"point {number}", "knobs": {}, "data": ""}


def long_row(manifest: dict[str, Any], length: int) -> None:
    row = manifest["golden"][0]
    manifest["limits"]["max_length"] = 8192
    row.update(input_ids=[2] * length, token_type_ids=None, text=None)


def tensor(name: str, axes: int = 1, extent: int = 1) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "axes": ["batch", *[extent] * (axes - 1)]}


def numbered(k: int) -> dict[str, Any]:
    return tensor(f"t{k}")


def logits_of(manifest: dict[str, Any], labels: int) -> None:
    manifest.update(labels=["x"] * labels, golden=[])
    for segment in manifest["segments"]:
        segment["outputs"][0]["axes"] = ["batch", labels]


LIMITS: dict[str, tuple[int, Callable[[dict[str, Any], int], object]]] = {
    "segments": (64, grown),
    "files": (
        128,
        lambda v, n: v["files"].update(
            {f"f{k}": {"size": 1, "sha256": HASH} for k in range(n - len(v["files"]))}
        ),
    ),
    "bytes of a file": (
        1 << 36,
        # the other files of the bundle count too
        lambda v, n: v["files"]["tokenizer.json"].update(
            size=n - sum(f["size"] for k, f in v["files"].items() if k != "tokenizer.json")
        ),
    ),
    "layers": (512, lambda v, n: v["segments"][2].update(layer=n)),
    "labels": (1 << 16, logits_of),
    "tokens": (8192, lambda v, n: v["limits"].update(max_length=n)),
    "golden tokens": (8192, long_row),
    "token ids": (2_000_000, lambda v, n: v["limits"].update(vocab_size=n)),
    "token types": (1024, lambda v, n: v["limits"].update(type_vocab_size=n)),
    "operating points": (256, lambda v, n: v.update(operating_points=[point(k) for k in range(n)])),
    "golden rows": (16, lambda v, n: v.update(golden=[v["golden"][0]] * n)),
    "name": (64, lambda v, n: v["segments"][2]["outputs"].append(tensor("n" * n))),
    "file name": (128, lambda v, n: v["files"].update({"f" * n: {"size": 1, "sha256": HASH}})),
    "text": (4096, lambda v, n: v["policy"].update(rule="r" * n)),
    "axes": (8, lambda v, n: v["segments"][2]["outputs"].append(tensor("t", n))),
    "extent": (1 << 20, lambda v, n: v["segments"][2]["outputs"].append(tensor("t", 2, n))),
    "outputs": (64, lambda v, n: v["segments"][2]["outputs"].extend(map(numbered, range(n - 3)))),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_holds_exactly(data: bytes, name: str) -> None:
    limit, change = LIMITS[name]
    for size in (limit - 1, limit):
        parse_manifest(edited(data, lambda value, n=size: change(value, n)))
    with pytest.raises(ManifestError):
        parse_manifest(edited(data, lambda value: change(value, limit + 1)))


@pytest.mark.parametrize("size, accepted", [(-1, True), (0, True), (1, False)])
def test_the_manifest_may_have_one_mebibyte(data: bytes, size: int, accepted: bool) -> None:
    padded = data + b" " * (MAX_MANIFEST_BYTES + size - len(data))
    if accepted:
        assert parse_manifest(padded) == parse_manifest(data)
    else:
        with pytest.raises(ManifestError, match="1048577 bytes"):
            parse_manifest(padded)


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1])
def test_nesting_is_limited(depth: int) -> None:
    document = b"[" * depth + b"]" * depth
    if depth <= MAX_DEPTH:
        assert str(read_json(document)) == document.decode()
    else:
        with pytest.raises(ValueError, match="nested deeper than 16"):
            read_json(document)


MEBIBYTE = 1 << 20
BOMBS: dict[str, bytes] = {
    "brackets": b"[" * MEBIBYTE,
    "objects": b'{"a":' * (MEBIBYTE // 5),
    "digits": b"9" * MEBIBYTE,
    "a float of a million digits": b"0." + b"9" * (MEBIBYTE - 2),
    "numbers": b"[" + b"1," * (MEBIBYTE // 2 - 2) + b"1]",
    "empty lists": b"[" + b"[]," * (MEBIBYTE // 3 - 2) + b"[]]",
    "one key, again and again": b"{" + b'"a":1,' * (MEBIBYTE // 6 - 2) + b'"a":1}',
    "many keys, the last one twice": json.dumps({str(k): 1 for k in range(70_000)})
    .encode()
    .replace(b'"69999"', b'"69998"'),
    "escapes": b'"' + b"\\u0041" * (MEBIBYTE // 6 - 1) + b'"',
}
CHILD = """
import resource, sys, time
from pathlib import Path
from effbert.runtime import open_bundle
from effbert.runtime.errors import EffbertError

folder = Path(sys.argv[1])
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
before = peak()
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
start = time.process_time()
try:
    open_bundle(folder).verify_files()
except EffbertError as error:
    print(type(error).__name__, time.process_time() - start, peak() - before)
"""


def outcome(folder: Path) -> str:
    """Opens a bundle in a child with 1 GiB of address space; the type of the error it met."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    name, seconds, mebibytes = result.stdout.split()
    assert float(seconds) < 1
    assert float(mebibytes) < 200
    return name


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_in_the_manifest_is_refused_in_little_time_and_memory(
    bundle: Path, name: str
) -> None:
    assert len(BOMBS[name]) <= MEBIBYTE
    (bundle / "effbert.json").write_bytes(BOMBS[name])
    assert outcome(bundle) == "ManifestError"


def test_a_manifest_of_100_gigabytes_is_refused(bundle: Path) -> None:
    os.truncate(bundle / "effbert.json", 100 << 30)
    assert outcome(bundle) == "ManifestError"


def test_a_file_of_100_gigabytes_is_refused_by_its_size(bundle: Path) -> None:
    os.truncate(bundle / SEGMENT, 100 << 30)
    assert outcome(bundle) == "IntegrityError"


def test_a_small_file_that_claims_to_be_large_is_refused(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest["files"][SEGMENT].update(size=50 << 30))
    assert outcome(bundle) == "IntegrityError"


def test_a_file_larger_than_memory_is_an_error_not_a_crash(bundle: Path) -> None:
    os.truncate(bundle / SEGMENT, 50 << 30)
    edit_manifest(bundle, lambda manifest: manifest["files"][SEGMENT].update(size=50 << 30))
    assert outcome(bundle) == "ResourceError"

"""`validate` replays what was known at export; nothing is ever written but a new manifest."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from bundle_edits import edit_manifest, edit_segment, write_listed
from effbert.runtime import open_bundle
from effbert.runtime.bundle import folder as bundle_module
from effbert.runtime.bundle.folder import replace_manifest
from effbert.runtime.bundle.manifest import OperatingPoint
from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.checks.replay import validate
from effbert.runtime.engines.onnxruntime.engine import FROM_MEMORY
from effbert.runtime.errors import BundleError, IntegrityError, ManifestError
from tiny_bundle import TEXTS, build_tiny_bundle


@pytest.mark.parametrize("options", [{}, {"policy": "patience"}, {"shared_weights": True}], ids=str)
def test_an_intact_bundle_is_valid(tmp_path: Path, options: dict[str, Any]) -> None:
    result = validate(build_tiny_bundle(tmp_path / "bundle", **options))
    assert (result.rows, result.texts) == (len(TEXTS), len(TEXTS))
    assert result.max_abs_diff is not None
    assert result.max_abs_diff < 1e-6
    assert result.nodes is None


def test_token_ids_without_a_tokenizer_are_replayed_all_the_same(bundle: Path) -> None:
    def remove(manifest: dict[str, Any]) -> None:
        manifest["tokenizer"] = None
        del manifest["files"]["tokenizer.json"]
        for row in manifest["golden"]:
            row["text"] = None

    edit_manifest(bundle, remove)
    assert (validate(bundle).texts, validate(bundle).rows) == (0, len(TEXTS))


def edit_tokenizer(folder: Path, change: Any) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_bytes())
    change(tokenizer)
    write_listed(folder, "tokenizer.json", json.dumps(tokenizer).encode())


def swap_words(tokenizer: dict[str, Any]) -> None:
    words = tokenizer["model"]["vocab"]
    words["good"], words["film"] = words["film"], words["good"]


def add_word(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["vocab"]["surplus"] = 50


def test_a_permuted_vocabulary_is_found_by_the_golden_texts(bundle: Path) -> None:
    edit_tokenizer(bundle, swap_words)
    open_bundle(bundle).verify_files()  # every hash is right
    with pytest.raises(IntegrityError, match="golden text 0 into other token ids"):
        validate(bundle)


def test_a_vocabulary_of_another_size_is_named(bundle: Path) -> None:
    edit_tokenizer(bundle, add_word)
    with pytest.raises(IntegrityError, match="has 51 token ids, the manifest says 50"):
        validate(bundle)


def test_a_vocabulary_size_edited_in_the_manifest_is_found(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest["tokenizer"].update(vocab_size=49))
    with pytest.raises(IntegrityError, match="has 50 token ids, the manifest says 49"):
        validate(bundle)


def test_special_tokens_with_other_ids_are_named(bundle: Path) -> None:
    edit_manifest(bundle, lambda v: v["tokenizer"]["special_ids"].update({"[SEP]": 2}))
    with pytest.raises(IntegrityError, match=r"gives '\[SEP\]' the id 3, the manifest says 2"):
        validate(bundle)


def test_a_tokenizer_that_cannot_be_read_is_named(bundle: Path) -> None:
    write_listed(bundle, "tokenizer.json", b'{"version": "1.0"}')
    with pytest.raises(BundleError, match=r"tokenizer\.json is not a tokenizer"):
        validate(bundle)


def test_other_weights_are_found_by_the_golden_rows(bundle: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        head = next(tensor for tensor in model.graph.initializer if tensor.name == "head")
        values = numpy_helper.to_array(head) + 0.01
        head.CopyFrom(numpy_helper.from_array(values, "head"))

    edit_segment(bundle, change)
    with pytest.raises(IntegrityError, match=r"Golden row 0: logits of exit 0 \(seg.* differs by"):
        validate(bundle)
    validate(bundle, replay=False)


@pytest.mark.parametrize("exit_index", [0, 1, 2])
def test_a_golden_value_that_is_wrong_names_row_and_exit(bundle: Path, exit_index: int) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["golden"][1]["outputs"]["logits"][exit_index][2] += 3e-3

    edit_manifest(bundle, change)
    message = rf"Golden row 1: logits of exit {exit_index} \(segment-0{exit_index}.onnx\)"
    with pytest.raises(IntegrityError, match=message):
        validate(bundle)


@pytest.mark.parametrize("atol, accepted", [(1e-4, False), (2e-3, True)])
def test_the_tolerance_grows_with_that_of_the_export(
    bundle: Path, atol: float, accepted: bool
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["parity"]["atol"] = atol
        manifest["golden"][0]["outputs"]["logits"][0][0] += 1e-3

    edit_manifest(bundle, change)
    if accepted:
        assert validate(bundle).max_abs_diff == pytest.approx(1e-3, rel=0.01)
    else:
        with pytest.raises(IntegrityError):
            validate(bundle)


POINT = OperatingPoint(name="fast", knobs={"threshold": 0.4}, data="tests")


def test_a_new_manifest_replaces_the_old_one_and_nothing_else(bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    opened = open_bundle(bundle)
    manifest = msgspec.structs.replace(opened.manifest, operating_points=[POINT])
    assert replace_manifest(opened, manifest).manifest == manifest
    assert open_bundle(bundle).manifest == manifest
    after = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {MANIFEST_NAME}
    assert after.keys() == before.keys()


def test_a_manifest_that_would_be_refused_is_not_written(bundle: Path) -> None:
    opened = open_bundle(bundle)
    wrong = OperatingPoint(name="wrong", knobs={"ghost": 1.0}, data="tests")
    manifest = msgspec.structs.replace(opened.manifest, operating_points=[wrong])
    with pytest.raises(ManifestError, match="no such knob"):
        replace_manifest(opened, manifest)
    assert open_bundle(bundle).manifest == opened.manifest


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_replacement_leaves_the_old_manifest_and_no_rest(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    opened = open_bundle(bundle)
    names = sorted(os.listdir(bundle))
    manifest = msgspec.structs.replace(opened.manifest, operating_points=[POINT])
    with monkeypatch.context() as patch:
        patch.setattr(bundle_module.os, call, full)
        with pytest.raises(BundleError, match="cannot be replaced: No space left"):
            replace_manifest(opened, manifest)
    assert sorted(os.listdir(bundle)) == names
    assert open_bundle(bundle).manifest == opened.manifest


WITHOUT_WRITING = """
import os, sys

def refuse(event, arguments):
    if event == "open":
        mode, flags = arguments[1] or "r", arguments[2]
        writes = set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and arguments[0] != os.devnull:
            raise PermissionError(13, "Permission denied")
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link"):
        raise PermissionError(13, "Permission denied")

sys.addaudithook(refuse)
from effbert.runtime import Session
from effbert.runtime.checks.replay import validate

validate(sys.argv[1])
with Session(sys.argv[1]) as session:
    print(session(["a good film"])[0].label)
"""


@pytest.mark.skipif(
    not hasattr(onnxruntime.SessionOptions, FROM_MEMORY),
    reason="onnxruntime 1.23 reads weights that segments share from a file only",
)
def test_nothing_need_be_written_and_no_home_is_needed(bundle: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in bundle.iterdir()}
    for path in (*bundle.iterdir(), bundle):
        path.chmod(0o555 if path.is_dir() else 0o444)
    environment = {key: value for key, value in os.environ.items() if key != "HOME"}
    environment |= {"TMPDIR": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_WRITING, str(bundle)],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    bundle.chmod(0o755)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in ("negative", "neutral", "positive")
    after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in bundle.iterdir()}
    assert after == before


def test_a_bundle_without_golden_rows_needs_no_engine(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(golden=[]))
    monkeypatch.setattr("effbert.runtime.engines.table.find_spec", lambda name: None)
    found = validate(bundle)
    assert (found.rows, found.engine) == (0, None)


def test_validation_tells_which_engine_computed(bundle: Path) -> None:
    assert validate(bundle).engine == "onnxruntime"
    assert validate(bundle, engine="openvino").engine == "openvino"

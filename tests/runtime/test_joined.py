"""All segments as one graph: the answers of the segments one by one, to the bit."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle_edits import edit_segment
from effbert.runtime import Session, open_bundle
from effbert.runtime.engines.graph_bytes import Branch
from effbert.runtime.engines.joined import join_segments
from effbert.runtime.engines.mapped import MAPS, give_back
from effbert.runtime.engines.onnxruntime import OnnxRuntime, OnnxRuntimeChain
from effbert.runtime.engines.protobuf import fields, written
from effbert.runtime.errors import BundleError, NumericalError
from effbert.runtime.one_by_one import OneByOne
from tiny_bundle import EXITS, MAX_LENGTH, VOCABULARY, build_tiny_bundle

KINDS = ["entropy", "patience", "shared", "padding", "tokens", "questions"]


@pytest.fixture(scope="module")
def apart(bundles: dict[str, Path]) -> dict[str, Session]:
    """Sessions that run one segment after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(OnnxRuntime, "join")
        return {name: Session(bundles[name]) for name in KINDS}


def random_call(kind: str, seed: int, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, MAX_LENGTH, count)
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = generator.integers(0, len(VOCABULARY), mask.shape) * mask
    if kind == "patience":
        return {"input_ids": ids, "attention_mask": mask}, {"patience": int(seed % 4)}
    thresholds = generator.uniform(0, 1.3, EXITS).tolist()
    return {"input_ids": ids, "attention_mask": mask}, {"threshold": thresholds}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 9))
def test_one_graph_answers_as_its_segments(
    sessions: dict[str, Session], apart: dict[str, Session], kind: str, seed: int, count: int
) -> None:
    assert isinstance(sessions[kind]._chains.default._segments, OnnxRuntimeChain)
    assert isinstance(apart[kind]._chains.default._segments, OneByOne)
    inputs, knobs = random_call(kind, seed, count)
    found, expected = (s[kind].run(inputs, knobs) for s in (sessions, apart))
    assert found.exit_index.tolist() == expected.exit_index.tolist()
    np.testing.assert_array_equal(found.exit_layer, expected.exit_layer)
    np.testing.assert_array_equal(found.signal, expected.signal)
    for name, values in expected.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], values)


@pytest.mark.parametrize("leaves, runs", [(0, 1), (1, 1), (2, 1)])
def test_a_row_alone_is_answered_in_one_run(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, leaves: int, runs: int
) -> None:
    with Session(bundles["entropy"]) as session:
        segments = session._chains.default._segments
        assert isinstance(segments, OnnxRuntimeChain)
        calls: list[int] = []
        run = segments.run
        monkeypatch.setattr(segments, "run", lambda *a: calls.append(a[0]) or run(*a))
        thresholds = [2.0 if place == leaves else 0.0 for place in range(EXITS)]
        result = session.run({"input_ids": [[2, 5, 6, 3]]}, {"threshold": thresholds})
    assert result.exit_index.tolist() == [leaves]
    assert len(calls) == runs


def constant_of(model: onnx.ModelProto, name: str) -> Any:
    return next(item for item in model.graph.initializer if item.name == name)


def fill(name: str, value: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = constant_of(model, name)
        array = np.full(onnx.numpy_helper.to_array(tensor).shape, value, np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))

    return change


def test_an_answer_that_is_not_finite_is_found_at_its_exit(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    edit_segment(bundle, fill("bias", np.nan))
    with Session(bundle) as session, pytest.raises(NumericalError, match="exit 0"):
        session.run({"input_ids": [[2, 5, 6, 3]]})


def test_finite_answers_whose_sum_is_not_go_on(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    edit_segment(bundle, fill("bias", 3e38))
    ids = {"input_ids": [[2, 5, 6, 3]]}
    with Session(bundle) as session:
        answer = session.run(ids)
    with Session(build_tiny_bundle(tmp_path / "plain")) as session:
        expected = session.run(ids)
    assert answer.exit_index.tolist() == [EXITS - 1]
    np.testing.assert_array_equal(answer.logits, expected.logits)


def older(model: onnx.ModelProto) -> None:
    model.ir_version -= 1


def annotated(model: onnx.ModelProto) -> None:
    model.functions.add(name="unused", domain="some")


@pytest.mark.parametrize("change", [older, annotated])
def test_segments_that_cannot_be_joined_run_one_by_one(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    edit_segment(bundle, change)
    with Session(bundle) as session:
        assert isinstance(session._chains.default._segments, OneByOne)
        assert session.run({"input_ids": [[2, 5, 3]]}).exit_index.tolist() == [EXITS - 1]


def test_a_segment_that_no_engine_can_open_is_named(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")

    def unknown(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "Nonsense"

    edit_segment(bundle, unknown)
    with pytest.raises(Exception, match=r"segment-00\.onnx"):
        Session(bundle)


def test_no_file_is_left_behind(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Session(bundles["shared"]) as session:
        assert isinstance(session._chains.default._segments, OnnxRuntimeChain)
        assert list(tmp_path.iterdir()) == []


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_message_are_a_value_error(data: bytes) -> None:
    try:
        parts = list(fields(memoryview(data)))
    except ValueError:
        return
    assert b"".join(bytes(part.raw) for part in parts) == data


@pytest.mark.parametrize("value", [0, 1, 127, 128, 1 << 40, "name", b"", b"\x00" * 300])
def test_what_is_written_is_read(value: int | str | bytes) -> None:
    (field,) = fields(memoryview(written(13, value)))
    found = field.value if isinstance(field.value, int) else bytes(field.value)
    assert (field.number, found) == (13, value.encode() if isinstance(value, str) else value)


@pytest.mark.parametrize("data", [b"", b"\x3a\x05abc", written(7, 3), b"\x08" + b"\xff" * 12])
def test_files_that_are_no_models_are_not_taken_apart(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Branch(data, {})


@pytest.mark.skipif(not MAPS.exists(), reason="Linux only")
def test_mapped_pages_are_given_back_and_can_be_read_again(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    path = tmp_path / "weights"
    path.write_bytes(content)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == content
        before = resident(path)
        give_back(str(tmp_path))
        assert resident(path) == 0 < before
        assert mapped[:] == content


def resident(path: Path) -> int:
    """Kilobytes of a mapped file that are in memory."""
    total, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            here = line.endswith(str(path))
        elif here and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def test_damage_is_still_found(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    path = bundle / "segment-02.onnx"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"segment-02\.onnx is damaged"):
        Session(bundle)


def test_what_all_segments_compute_of_the_mask_is_computed_once(bundles: dict[str, Path]) -> None:
    opened = open_bundle(bundles["entropy"])
    files = [opened.read(segment.file) for segment in opened.manifest.segments]
    joined = onnx.ModelProto.FromString(join_segments(opened.manifest, files, BytesIO(), "weights"))
    outside = [node.op_type for node in joined.graph.node]
    assert outside == ["Cast", "Unsqueeze", "ReduceSum", "Loop"]
    bodies = joined.SerializeToString()
    assert bodies.count(b"Unsqueeze") == 1

"""All segments as one graph: the answers of the segments one by one, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle_edits import edit_manifest, edit_segment
from effbert.runtime import Session, open_bundle
from effbert.runtime.chain.one_by_one import OneByOne
from effbert.runtime.engines.onnxruntime.engine import OnnxRuntime, OnnxRuntimeChain
from effbert.runtime.engines.onnxruntime.joined import join_segments
from effbert.runtime.engines.protocol import CannotJoinError, EngineSettings
from effbert.runtime.errors import BundleError, EffbertError, EngineError, NumericalError
from separate_segments import keep_apart
from tiny_bundle import EXITS, MAX_LENGTH, VOCABULARY, build_tiny_bundle

KINDS = ["entropy", "patience", "shared", "padding", "tokens", "questions"]


@pytest.fixture(scope="module")
def apart(bundles: dict[str, Path]) -> dict[str, Session]:
    """Sessions that run one segment after the other."""
    with pytest.MonkeyPatch.context() as patch:
        keep_apart(patch)
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


class Unwilling(np.ndarray):
    """An array for whose copy there is no memory."""

    def copy(self, order: Any = "C") -> Any:
        raise MemoryError(f"Unable to allocate an array of {order}")


def test_rows_are_halved_where_answers_cannot_be_copied(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.random.default_rng(0).integers(5, len(VOCABULARY), (5000, 4))
    with Session(bundles["entropy"]) as session:
        expected = session.run({"input_ids": ids}).logits
        segments = session._chains.default._segments
        assert isinstance(segments, OnnxRuntimeChain)
        compute, refused = segments._compute, []

        def computed(*arguments: Any) -> list[np.ndarray]:
            values = compute(*arguments)
            if values[1:] and len(values[1]) > 3000:
                refused.append(len(values[1]))
                values[1] = values[1].view(Unwilling)
            return values

        monkeypatch.setattr(segments, "_compute", computed)
        result = session.run({"input_ids": ids})
    assert refused
    np.testing.assert_array_equal(result.logits, expected)


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


@pytest.mark.parametrize("rows", [1, 4097])  # the second is more than memory is kept for
def test_answers_stay_whatever_runs_later(bundles: dict[str, Path], rows: int) -> None:
    ids = np.random.default_rng(rows).integers(5, len(VOCABULARY), (rows, 4))
    with Session(bundles["entropy"]) as session:
        result = session.run({"input_ids": ids})
        kept = result.logits.copy(), result.signal.copy()
        for other in range(20):
            session.run({"input_ids": np.roll(ids, other, axis=1)})
    np.testing.assert_array_equal(result.logits, kept[0])
    np.testing.assert_array_equal(result.signal, kept[1])


def constant_of(model: onnx.ModelProto, name: str) -> Any:
    return next(item for item in model.graph.initializer if item.name == name)


def fill(name: str, value: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = constant_of(model, name)
        array = np.full(onnx.numpy_helper.to_array(tensor).shape, value, np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))

    return change


@pytest.mark.parametrize("bias", [np.nan, np.inf])
def test_no_row_leaves_with_an_answer_that_is_not_finite(tmp_path: Path, bias: float) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    edit_segment(bundle, fill("bias", bias))
    ids, eager = {"input_ids": [[2, 5, 6, 3]]}, {"threshold": [2.0, *[0.0] * (EXITS - 1)]}
    with Session(bundle) as session:
        answer = session.run(ids, eager)
        with pytest.raises(NumericalError, match="exit 0"):
            session.run_exits(ids)
    with Session(build_tiny_bundle(tmp_path / "plain")) as session:
        expected = session.run(ids)
    assert answer.exit_index.tolist() == [EXITS - 1]
    np.testing.assert_array_equal(answer.logits, expected.logits)


def test_finite_answers_whose_sum_is_not_go_on(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    edit_segment(bundle, fill("bias", 3e38))
    ids = {"input_ids": [[2, 5, 6, 3]]}
    with Session(bundle) as session:
        answer = session.run(ids)
        session.run_exits(ids)
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


def unknown(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Nonsense"


def without_outputs(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Add", ["input_ids", "input_ids"], []))


@pytest.mark.parametrize("change", [unknown, without_outputs])
def test_a_segment_that_no_engine_can_open_is_named(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    edit_segment(bundle, change)
    with pytest.raises(EngineError, match=r"segment-00\.onnx"):
        Session(bundle)


def test_operators_that_this_version_does_not_have_are_named(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")

    def divide(model: onnx.ModelProto) -> None:
        half = onnx.TensorProto.BFLOAT16  # onnxruntime divides other numbers only
        to_half = onnx.helper.make_node("Cast", ["input_ids"], ["half"], to=half)
        rest = onnx.helper.make_node("Mod", ["half", "half"], ["rest"], fmod=1)
        model.graph.node.extend([to_half, rest])
        model.graph.output.append(onnx.helper.make_tensor_value_info("rest", half, None))

    edit_segment(bundle, divide)
    with pytest.raises(EngineError, match=r"segment-00\.onnx.*Mod of opset 13.*lower --opset"):
        Session(bundle)


def test_no_file_is_left_behind(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Session(bundles["shared"]) as session:
        assert isinstance(session._chains.default._segments, OnnxRuntimeChain)
        assert list(tmp_path.iterdir()) == []


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


IDS = {"input_ids": [[2, 5, 6, 3, 0], [2, 7, 8, 9, 3]], "attention_mask": [[1] * 4 + [0], [1] * 5]}
SEGMENTS = [f"segment-0{place}.onnx" for place in range(EXITS)]


def edit_all(bundle: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    for name in SEGMENTS:
        edit_segment(bundle, change, name)


def compare(bundle: Path, knobs: dict[str, Any] | None = None) -> None:
    """Asserts that the bundle is joined and answers as its segments one by one."""
    with Session(bundle) as session:
        assert isinstance(session._chains.default._segments, OnnxRuntimeChain)
        found = session.run(IDS, knobs)
    with pytest.MonkeyPatch.context() as patch:
        keep_apart(patch)
        with Session(bundle) as session:
            expected = session.run(IDS, knobs)
    for name in ("logits", "signal", "exit_index", "exit_layer"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def give_default(model: onnx.ModelProto) -> None:
    default = onnx.numpy_helper.from_array(np.ones((1, 1), np.int64), "attention_mask")
    model.graph.initializer.append(default)


def use_our_words(model: onnx.ModelProto) -> None:
    """Values of a segment called as something in the loop is, without our prefix."""
    words = {"column": "place", "total": "most", "masked": "go", "mixed": "again", "moved": "sum"}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [words.get(name, name) for name in names]


def double_the_mask(model: onnx.ModelProto) -> None:
    names = ["attention_mask", *(f"doubled_{place}" for place in range(40))]
    for before, after in reversed(list(pairwise(names))):
        model.graph.node.insert(0, onnx.helper.make_node("Mul", [before, before], [after]))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("change", [give_default, use_our_words, double_the_mask])
def test_unusual_segments_are_joined_too(
    tmp_path: Path, change: Callable[[onnx.ModelProto], object]
) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    edit_all(bundle, change)
    compare(bundle, {"threshold": 0.8})


@pytest.mark.parametrize("thresholds", [[0, 0, 0], [2, 0, 0], [0.7, 0, 0], [0, 2, 0]])
def test_layers_of_tokens_that_one_segment_tells(tmp_path: Path, thresholds: list[float]) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    name, axes = "exit_layer", ["batch", "sequence"]

    def tell(model: onnx.ModelProto) -> None:
        model.graph.node.append(onnx.helper.make_node("Neg", ["attention_mask"], [name]))
        kind = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, axes)
        model.graph.output.append(kind)

    edit_segment(bundle, tell, SEGMENTS[1])
    output = {"name": name, "dtype": "int64", "axes": axes}
    edit_manifest(bundle, lambda manifest: manifest["segments"][1]["outputs"].append(output))
    compare(bundle, {"threshold": thresholds})


def test_a_knob_may_have_a_name_that_the_loop_uses_too(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")

    def rename(model: onnx.ModelProto) -> None:
        for value in model.graph.input:
            value.name = "place" if value.name == "threshold" else value.name
        for node in model.graph.node:
            node.input[:] = ["place" if name == "threshold" else name for name in node.input]

    edit_all(bundle, rename)
    path = bundle / "effbert.json"
    path.write_text(path.read_text().replace('"threshold"', '"place"'))
    compare(bundle, {"place": 0.8})


def test_what_is_made_of_constants_stays_with_its_reader(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle", shared_weights=True)

    def negate(model: onnx.ModelProto) -> None:
        product = next(node for node in model.graph.node if node.output[0] == "mixed")
        weight, product.input[1] = product.input[1], "negative"
        model.graph.node.insert(0, onnx.helper.make_node("Neg", [weight], ["negative"]))

    edit_all(bundle, negate)
    compare(bundle)
    opened = open_bundle(bundle)
    files = [opened.read(name) for name in SEGMENTS]
    joined = onnx.ModelProto.FromString(join_segments(opened.manifest, files, BytesIO(), "weights"))
    assert "Neg" not in [node.op_type for node in joined.graph.node]


def test_a_huge_state_takes_no_memory_to_open(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    state = {"name": "huge", "dtype": "float32", "axes": ["batch", 1 << 20, 1 << 20], "initial": 0}
    edit_manifest(bundle, lambda manifest: manifest["states"].append(state))
    with Session(bundle) as session:
        assert isinstance(session._chains.default._segments, OnnxRuntimeChain)


def test_a_failing_run_names_the_segment_and_the_operator(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")

    def fail(model: onnx.ModelProto) -> None:
        shape = onnx.numpy_helper.from_array(np.array([7, 7], np.int64), "seven")
        model.graph.initializer.append(shape)
        last = next(node for node in model.graph.node if node.output[0] == "logits")
        last.output[0] = "scored"
        reshape = onnx.helper.make_node("Reshape", ["scored", "seven"], ["logits"])
        model.graph.node.insert([*model.graph.node].index(last) + 1, reshape)

    edit_segment(bundle, fail, SEGMENTS[1])
    with Session(bundle) as session, pytest.raises(EngineError) as caught:
        session.run(IDS)
    assert "segment-01.onnx" in str(caught.value)
    assert "Reshape" in str(caught.value)


@pytest.mark.parametrize("where", ["attribute", "initializer"])
def test_references_to_other_files_are_not_joined(tmp_path: Path, where: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(np.array([11, 22, 33], np.float32).tobytes())
    bundle = build_tiny_bundle(tmp_path / "bundle")

    def refer(model: onnx.ModelProto) -> None:
        tensor = constant_of(model, "bias")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "../secret", "offset": "0", "length": "12"}.items():
            tensor.external_data.add(key=key, value=value)
        if where == "attribute":
            node = onnx.helper.make_node("Constant", [], ["bias"], value=tensor)
            model.graph.node.insert(0, node)
            model.graph.initializer.remove(tensor)

    edit_all(bundle, refer)
    opened = open_bundle(bundle)
    with pytest.raises(CannotJoinError, match="outside"):
        OnnxRuntime(EngineSettings(threads=1)).join(
            opened.manifest, map(opened.read, SEGMENTS), None
        )
    with pytest.raises(EffbertError, match=r"segment-00\.onnx"):
        Session(bundle)

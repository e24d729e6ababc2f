"""`validate --deep` finds what a graph could hide; ordinary validation cannot see it."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundle_edits import edit_segment, write_listed
from effbert.runtime.checks import graphs as deep
from effbert.runtime.checks.replay import validate
from effbert.runtime.errors import ManifestError, MissingDependencyError, UnsafeContentError
from tiny_bundle import build_tiny_bundle

Change = Callable[[onnx.ModelProto], object]
HIDDEN_BYTES = 64


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with a `weights.bin` of two aligned blocks that segment 0 need not use."""
    folder = build_tiny_bundle(tmp_path / "bundle")
    write_listed(folder, "weights.bin", bytes(deep.ALIGNMENT + HIDDEN_BYTES))
    return folder


def check(folder: Path) -> int | None:
    return validate(folder, deep=True, replay=False).nodes


def external(location: str = "weights.bin", offset: str = "0", length: str = "64") -> TensorProto:
    """An external float tensor of 16 numbers, 64 bytes."""
    tensor = TensorProto(name="hidden_data", data_type=TensorProto.FLOAT, dims=[16])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=value)
    return tensor


def initializer(tensor: TensorProto) -> Change:
    return lambda model: model.graph.initializer.append(tensor)


def attribute(**attributes: object) -> Change:
    node = helper.make_node("Constant", [], ["unused"], "hiding", **attributes)
    return lambda model: model.graph.node.append(node)


def changed(change: Callable[[TensorProto], object]) -> TensorProto:
    tensor = external()
    change(tensor)
    return tensor


def sparse(model: onnx.ModelProto) -> None:
    item = model.graph.sparse_initializer.add(dims=[16])
    item.values.CopyFrom(external())


def sparse_attribute(model: onnx.ModelProto) -> None:
    item = onnx.SparseTensorProto(dims=[16], values=external())
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], sparse_value=item))


def subgraph() -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [external()])


def function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Constant", [], ["y"], value=external())]
    model.functions.append(helper.make_function("own", "F", [], ["y"], body, []))


def training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.CopyFrom(subgraph())


HIDING_PLACES: dict[str, tuple[Change, str]] = {
    "tensor attribute": (attribute(value=external()), "other than an initializer"),
    "list of tensors": (attribute(values=[external()]), "other than an initializer"),
    "sparse initializer": (sparse, "sparse tensor"),
    "sparse attribute": (sparse_attribute, "sparse tensor"),
    "subgraph": (attribute(body=subgraph()), "holds a graph"),
    "list of subgraphs": (attribute(bodies=[subgraph()]), "holds a graph"),
    "function": (function, "defines the function 'F'"),
    "training information": (training, "training information"),
}
LOCATIONS = {
    "outside": initializer(external("../weights.bin")),
    "absolute": initializer(external("/etc/passwd")),
    "in a folder": initializer(external("sub/weights.bin")),
    "dot": initializer(external("./weights.bin")),
    "another file of the bundle": initializer(external("tokenizer.json")),
    "upper case": initializer(external("WEIGHTS.BIN")),
    "nowhere": initializer(external("")),
    "a marker of onnxruntime": initializer(external("*/_ORT_MEM_ADDR_/*")),
}
RANGES = {
    "not aligned": initializer(external(offset="64")),
    "behind the end": initializer(external(offset=str(2 * deep.ALIGNMENT))),
    "negative offset": initializer(external(offset="-65536")),
    "huge offset": initializer(external(offset="9" * 30)),
    "offset with a space": initializer(external(offset=" 0")),
    "offset in other digits": initializer(external(offset="\u0660")),
    "offset in hex": initializer(external(offset="0x0")),
    "too long": initializer(external(length="68")),
    "too short": initializer(external(length="60")),
    "negative length": initializer(external(length="-64")),
    "no length": initializer(changed(lambda t: t.external_data.pop())),
    "two locations": initializer(changed(lambda t: t.external_data.add(key="location"))),
    "unknown entry": initializer(changed(lambda t: t.external_data.add(key="checksum"))),
    "data of its own too": initializer(changed(lambda t: setattr(t, "raw_data", bytes(64)))),
    "internal after all": initializer(changed(lambda t: t.ClearField("data_location"))),
}
SIZES = {
    "four terabytes": TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[1 << 20, 1 << 20]),
    "overflow": TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[1 << 62, 1 << 62]),
    "negative": TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[-1], raw_data=b""),
    "byte missing": TensorProto(name="b", data_type=TensorProto.FLOAT, dims=[2], raw_data=bytes(7)),
    "byte more": TensorProto(name="b", data_type=TensorProto.INT8, dims=[2], raw_data=b"123"),
    "number missing": TensorProto(name="b", data_type=TensorProto.INT64, dims=[2], int64_data=[1]),
    "wrong field": TensorProto(name="b", data_type=TensorProto.INT64, dims=[1], int32_data=[1]),
    "strings": TensorProto(name="b", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"]),
    "no type": TensorProto(name="b", dims=[0]),
    "unknown type": TensorProto(name="b", data_type=99, dims=[0]),
}  # fmt: skip


def node(op_type: str, domain: str = "") -> Change:
    made = helper.make_node(op_type, [], ["unused"], "odd one", domain=domain)
    return lambda model: model.graph.node.append(made)


NODES: dict[str, tuple[Change, str]] = {
    **{name: (node(name), "control flow") for name in ("If", "Loop", "Scan", "SequenceMap")},
    "fused": (node("Attention", "com.microsoft"), "of 'com.microsoft', not standard"),
    "engine": (node("EPContext", "com.microsoft"), "not standard"),
    "custom": (node("Evil", "my.domain"), "not standard"),
    "unknown": (node("Evil"), "which standard ONNX does not have"),
    "foreign operators": (
        lambda model: model.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
        "imports the operators of 'com.microsoft'",
    ),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_external_data_is_found_in_every_hiding_place(bundle: Path, place: str) -> None:
    change, message = HIDING_PLACES[place]
    edit_segment(bundle, change)
    validate(bundle, replay=False)  # the hashes are right: only --deep can know
    with pytest.raises(UnsafeContentError, match=f"^segment-00.onnx: .*{message}.*not run this"):
        check(bundle)


@pytest.mark.parametrize("place", LOCATIONS)
def test_external_data_is_in_weights_bin_only(bundle: Path, place: str) -> None:
    edit_segment(bundle, LOCATIONS[place])
    with pytest.raises(UnsafeContentError, match=r"'hidden_data' is stored outside weights\.bin"):
        check(bundle)


@pytest.mark.parametrize("name", RANGES)
def test_external_data_is_an_aligned_range_of_the_right_size(bundle: Path, name: str) -> None:
    edit_segment(bundle, RANGES[name])
    with pytest.raises(UnsafeContentError, match="'hidden_data'"):
        check(bundle)


@pytest.mark.parametrize("offset", [0, deep.ALIGNMENT])
def test_external_data_in_its_place_is_fine(bundle: Path, offset: int) -> None:
    edit_segment(bundle, initializer(external(offset=str(offset))))
    assert check(bundle) == 58


def test_external_data_without_a_listed_weights_file_is_refused(tmp_path: Path) -> None:
    folder = build_tiny_bundle(tmp_path / "bundle")
    edit_segment(folder, initializer(external()))
    with pytest.raises(UnsafeContentError, match=r"outside weights\.bin"):
        check(folder)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_a_tensor_holds_exactly_the_bytes_of_its_shape(bundle: Path, name: str, place: str) -> None:
    tensor = SIZES[name]
    edit_segment(bundle, initializer(tensor) if place == "initializer" else attribute(value=tensor))
    with pytest.raises(UnsafeContentError, match=f"{tensor.name!r}"):
        check(bundle)


@pytest.mark.parametrize(
    "tensor",
    [
        numpy_helper.from_array(np.ones((2, 3), np.float16), "ok"),
        helper.make_tensor("ok", TensorProto.FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("ok", TensorProto.BFLOAT16, [2], [1.0, 2.0]),
        helper.make_tensor("ok", TensorProto.INT64, [0], []),
        helper.make_tensor("ok", TensorProto.INT8, [], [1]),
        helper.make_tensor("ok", TensorProto.INT4, [3], [1, 2, 3], raw=False),
        helper.make_tensor("ok", TensorProto.UINT4, [3], b"\x21\x03", raw=True),
    ],
    ids=lambda tensor: TensorProto.DataType.Name(tensor.data_type),
)
def test_honest_tensors_are_fine_however_they_are_stored(bundle: Path, tensor: TensorProto) -> None:
    edit_segment(bundle, initializer(tensor))
    assert check(bundle) == 58


@pytest.mark.parametrize("name", NODES)
def test_only_standard_operators_without_control_flow_are_allowed(bundle: Path, name: str) -> None:
    change, message = NODES[name]
    edit_segment(bundle, change)
    with pytest.raises(UnsafeContentError, match=message):
        check(bundle)


@pytest.mark.parametrize("spare, accepted", [(1, True), (0, True), (-1, False)])
def test_the_number_of_nodes_is_limited(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, spare: int, accepted: bool
) -> None:
    counts = [len(onnx.load(path).graph.node) for path in bundle.glob("*.onnx")]
    monkeypatch.setattr(deep, "MAX_NODES", max(counts) + spare)
    if accepted:
        assert check(bundle) == sum(counts)
    else:
        with pytest.raises(UnsafeContentError, match="nodes are more than"):
            check(bundle)


def renamed(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "ids"


def retyped(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def reshaped(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4


def unshaped(model: onnx.ModelProto) -> None:
    model.graph.input[1].type.tensor_type.ClearField("shape")


@pytest.mark.parametrize(
    "change, name",
    [
        (renamed, "input_ids"),
        (retyped, "logits"),
        (reshaped, "logits"),
        (unshaped, "attention_mask"),
        (lambda model: model.graph.output.add(name="extra"), "extra"),
        (lambda model: model.graph.input.pop(), "threshold"),
    ],
)
def test_inputs_and_outputs_are_those_of_the_manifest(
    bundle: Path, change: Change, name: str
) -> None:
    edit_segment(bundle, change)
    with pytest.raises(ManifestError, match=f"segment-00.onnx: the .*not those.*'{name}'"):
        check(bundle)


def test_a_file_that_is_no_graph_is_refused(bundle: Path) -> None:
    write_listed(bundle, "segment-00.onnx", b"\xff" * 100)
    with pytest.raises(UnsafeContentError, match="not an ONNX model"):
        check(bundle)


@pytest.mark.parametrize("options", [{}, {"policy": "patience"}, {"shared_weights": True}], ids=str)
def test_honest_bundles_pass(tmp_path: Path, options: dict) -> None:
    assert check(build_tiny_bundle(tmp_path / "bundle", **options))


def test_without_the_onnx_library_one_sentence_says_what_to_install(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "effbert.runtime.checks.graphs")
    monkeypatch.delattr("effbert.runtime.checks.graphs")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'effbert\[export\]'"):
        check(bundle)

"""What TensorRT does softly, or says in riddles, is one sentence, and nothing is written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from effbert.graph_passes.prepare import Request, prepare
from effbert.runtime.compile import build as build_module
from effbert.runtime.compile.audit import audit_graph, audit_size
from effbert.runtime.compile.build import Choices, build_plan, tidy
from effbert.runtime.compile.library import choose_targets, known_targets, load_library
from effbert.runtime.compile.ports import Ports, ports_of
from effbert.runtime.errors import (
    CompileError,
    InputError,
    MissingDependencyError,
    ResourceError,
)

trt: Any = pytest.importorskip("tensorrt_rtx")
ONE = Choices(["sm86"])
PLAIN = """
g (float[batch,4] x, float[4,4] w) => (float[batch,4] y) {
    y = MatMul(x, w)
}
"""
TWO = """
g (float[batch,4] x, float[batch,4] z) => (float[batch,4] y) {
    y = Add(x, z)
}
"""
RANGE = [[1, 4], [8, 4], [32, 4]]
SQUARE = [[4, 4]] * 3


def model(text: str, opset: int = 22, domain: str = "") -> bytes:
    imports = f'"" : {opset}' + (f', "{domain}" : 1' if domain else "")
    parsed = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]>\n{text}")
    for k, node in enumerate(parsed.graph.node):
        node.name = node.name or f"node_{k}"
    return parsed.SerializeToString()


def ports(data: bytes) -> Ports:
    return ports_of(prepare(data))


def build(text: str, shapes: Any, asked: Choices = ONE, **more: Any) -> bytes:
    data = model(text, **more)
    return bytes(build_plan(trt, "segment-00.onnx", data, ports(data), [shapes], asked))


def refusal(text: str, shapes: Any, asked: Choices = ONE, **more: Any) -> str:
    with pytest.raises(CompileError) as refused:
        build(text, shapes, asked, **more)
    said = str(refused.value)
    assert said.startswith("segment-00.onnx")
    assert said.endswith(".")
    assert "/_src/" not in said
    assert "cudaError 35" not in said
    assert "\n" not in said
    assert len(said) < 450
    return said


def test_a_good_graph_builds_twice_to_the_same_bytes():
    once, again = (build(PLAIN, {"x": RANGE, "w": SQUARE}) for _ in range(2))
    assert once == again
    assert once[:4] == b"vtrt"
    several = Choices(["sm80", "sm86", "sm89", "sm120"])
    lists = [build(PLAIN, {"x": RANGE, "w": SQUARE}, several) for _ in range(2)]
    assert len(lists[0]) == len(lists[1])


def test_tf32_is_off_unless_it_is_asked_for():
    without = build(PLAIN, {"x": RANGE, "w": SQUARE})
    assert without != build(PLAIN, {"x": RANGE, "w": SQUARE}, Choices(["sm86"], tf32=True))


@pytest.mark.parametrize("data", [b"", b"garbage", onnx.ModelProto().SerializeToString()])
def test_garbage_that_the_parser_takes_is_refused(data: bytes):
    nothing = Ports([], [], [])
    with pytest.raises(CompileError, match=r"holds no outputs|cannot be parsed"):
        build_plan(trt, "segment-00.onnx", data, nothing, [], ONE)


@pytest.mark.parametrize(
    "body, words",
    [
        ("i = NonZero(x)\nf = Cast <to = 1> (i)\ny = Neg(f)", "NonZero"),
        ("y = com.x.Fused(x)", "the operator Fused is not supported"),
        ("y = MatMulInteger(x, x)", "MatMulInteger"),
    ],
)
def test_the_parser_names_node_and_operator(body: str, words: str):
    text = f"g (float[batch,4] x) => (float[a,b] y) {{\n{body}\n}}"
    domain = "com.x" if "com.x" in body else ""
    said = refusal(text, {"x": RANGE}, domain=domain)
    assert "cannot be parsed: node node_0" in said
    assert words in said


@pytest.mark.parametrize(
    "shapes, words",
    [
        ({"x": [[8, 4], [1, 4], [32, 4]], "z": RANGE}, "profile 1 is refused"),
        ({"x": RANGE}, "says nothing of the input z"),
        ({"x": RANGE, "z": RANGE, "more": RANGE}, "names more, which is no input"),
        ({"x": RANGE, "z": [[1, 4], [4, 4], [32, 4]]}, "cannot be built"),
        ({"x": RANGE, "z": [[1, 4], [8, 4], [16, 4]]}, "do not fit each other"),
    ],
)
def test_profiles_that_cannot_work_are_refused(shapes: Any, words: str):
    text = TWO.replace("float[batch,4] z", "float[other,4] z")
    assert words in refusal(text, shapes)


def test_targets_that_the_library_takes_in_silence_are_refused():
    for target in ("none", "sm90", "current"):
        said = refusal(PLAIN, {"x": RANGE, "w": SQUARE}, Choices(["sm86", target]))
        assert f"cannot be built for {target.upper()}" in said


def test_turing_has_no_products_in_float32():
    said = refusal(PLAIN, {"x": RANGE, "w": SQUARE}, Choices(["sm75", "sm86"]))
    assert "FP32 GEMM is not supported" in said


def test_types_that_become_others_in_silence_are_refused():
    text = "g (double[batch,4] x) => (float[batch,4] y) {\n y = Cast <to = 1> (x)\n}"
    assert "TensorRT makes float32 of the input x, which is float64" in refusal_of_ports(text)


def refusal_of_ports(text: str) -> str:
    data = model(text)
    found = prepare(data)
    wide = SimpleNamespace(name="x", dtype="float32", axes=["batch", 4], role="input", rows=None)
    own = ports_of(SimpleNamespace(inputs=[wide], outputs=found.outputs, extents=[]))
    # `float64` is no type of a port; the comparison is what is tested.
    inputs = [SimpleNamespace(**{**vars(wide), "dtype": "float64"})]
    with pytest.raises(CompileError) as refused:
        build_plan(trt, "segment-00.onnx", data, own._replace(inputs=inputs), [{"x": RANGE}], ONE)
    return str(refused.value)


def test_an_input_that_decides_a_shape_must_be_an_extent():
    text = """
    g (float[batch,4] x, int64[1] k) => (float[batch,m] y) <int64[1] zero = {0}, int64[1] one = {1}>
    {
        y = Slice(x, zero, k, one)
    }
    """
    said = refusal(text, {"x": RANGE, "k": [[1], [2], [4]]})
    assert "wants the input k in memory of the host" in said


def test_attention_in_float32_is_decomposed():
    text = """
    g (float[batch,n,64] x) => (float[batch,n,64] y) {
        q = Neg(x)
        k = Abs(x)
        y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, x)
    }
    """
    assert build(text, {"x": [[1, 2, 64], [4, 16, 64], [8, 32, 64]]}, opset=23)


def test_an_attention_inside_an_if_is_an_error_of_the_build():
    text = """
    g (float[batch,n,64] q, bool c) => (float[batch,n,64] y) {
        y = If(c) <
            then_branch = t () => (float[batch,n,64] a)
                { a = Attention <q_num_heads = 2, kv_num_heads = 2> (q, q, q) },
            else_branch = e () => (float[batch,n,64] b) { b = Identity(q) }
        >
    }
    """
    shapes = {"q": [[1, 2, 64], [4, 16, 64], [8, 32, 64]], "c": [[], [], []]}
    assert "cannot be" in refusal(text, shapes, opset=23)


def test_devices_are_those_that_the_library_knows():
    assert {"sm75", "sm86", "sm120"} <= set(known_targets(trt))
    assert choose_targets(trt, "tensorrt-rtx", []) == ["sm80", "sm86", "sm89", "sm120"]
    assert choose_targets(trt, "tensorrt-rtx", [" SM86", "sm86"]) == ["sm86"]


@pytest.mark.parametrize(
    "target, words",
    [
        ("sm90", "SM90 needs --engine tensorrt on the device itself"),
        ("sm87", "A Jetson needs --engine tensorrt on the device itself"),
        ("none", "does not build for 'none'; choose from sm75"),
        ("current", "name the device instead"),
        ("gpu", "does not build for 'gpu'"),
    ],
)
def test_other_devices_are_refused_with_the_way_out(target: str, words: str):
    with pytest.raises(InputError, match=words):
        choose_targets(trt, "tensorrt-rtx", [target])


def test_the_engine_that_builds_for_its_own_gpu_needs_one():
    classic = SimpleNamespace()
    with pytest.raises(CompileError, match="builds on the GPU that it builds for"):
        choose_targets(classic, "tensorrt", [])


def test_a_library_that_is_not_installed_is_one_sentence():
    with pytest.raises(MissingDependencyError, match=r'pip install "effbert\[tensorrt\]"'):
        load_library("tensorrt")


def test_the_audit_finds_what_is_wider_than_asked():
    found = SimpleNamespace(wide_products=("a/MatMul", "b/MatMul"), constants=10 << 20, nodes=10)
    with pytest.raises(CompileError, match="a/MatMul and 1 more products would compute in float32"):
        audit_graph("segment-00.onnx", found, "fp16")
    audit_graph("segment-00.onnx", found, "fp32")
    audit_size("segment-00.onnx", found, 14 << 20, 1, "fp16")
    with pytest.raises(CompileError, match="must have widened the weights"):
        audit_size("segment-00.onnx", found, 20 << 20, 1, "fp16")


def test_what_a_build_machine_adds_to_a_message_is_stripped():
    raw = (
        "IBuilder::buildSerializedNetwork: Error Code 4: Internal Error (k is bad) In foo at "
        "/_src/build/graph.cpp:278\n[checkMacros.cpp::catchCudaError::226] Error Code 1: Cuda "
        "Runtime (In x at /_src/y.cpp:3: cudaError 35)"
    )
    assert tidy(raw) == "IBuilder::buildSerializedNetwork: Error Code 4: Internal Error (k is bad)"


@pytest.mark.parametrize("text", ["OutOfMemory (Requested size was 9)", "std::bad_alloc"])
def test_too_little_memory_for_a_build_is_said_as_such(text: str):
    log = SimpleNamespace(of=lambda *kinds: [text])
    error = build_module._failed("segment-00.onnx", "cannot be built", log)
    assert isinstance(error, ResourceError)
    assert "ran out of memory while it built segment-00.onnx" in str(error)


def test_a_build_without_a_reason_says_that_there_is_none():
    log = SimpleNamespace(of=lambda *kinds: ["[checkMacros.cpp::catchCudaError (cudaError 35)"])
    error = build_module._failed("segment-00.onnx", "cannot be built", log)
    assert str(error) == "segment-00.onnx cannot be built: TensorRT gives no reason."


def test_buffers_of_different_age_build_together():
    text = """
    g (float[batch,sequence,4] hidden, float[batch,sequence,4] old,
       int64[batch,sequence] attention_mask) => (float[batch,sequence,4] y) {
        y = Add(hidden, old)
    }
    """
    rows = {"hidden": "rows", "old": "rows_from_0"}
    found = prepare(model(text), None, Request(rows=rows, trims=True))
    buffer, indices = [[1, 2, 4], [8, 16, 4], [32, 32, 4]], [[1], [8], [32]]
    shapes = {"hidden": buffer, "old": buffer, "rows": indices, "rows_from_0": indices}
    shapes["attention_mask"] = [[1, 2], [8, 16], [32, 32]]
    assert build_plan(trt, "segment-02.onnx", found.model, ports_of(found), [shapes], ONE)

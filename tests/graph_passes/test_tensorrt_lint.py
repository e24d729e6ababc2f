"""What the lint says of graphs that TensorRT cannot build."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from effbert.graph_passes.tensorrt_lint import find_problems
from graphs import graph

CASES = {
    "y = NonZero(x)": ("NonZero", "cannot be built", "indices that the host"),
    "y = Compress(x, c)": ("Compress", "cannot be built", "indices that the host"),
    "y = Unique(x)": ("Unique", "cannot be built", "indices that the host"),
    "y, s, z = DynamicQuantizeLinear(x)": ("DynamicQuantizeLinear", "cannot be", "precision int8"),
    "y, i = TopK(x, big)": ("TopK", "k = 4000 is above 3840", "keep 3840"),
    "y, _ = TopK(x, few)": ("TopK", "name of its own", "name the outputs"),
    "y = QuantizeLinear(x, t, u)": ("QuantizeLinear", "uint8 levels", "prepare the graph"),
    "y = QuantizeLinear(x, t, n)": ("QuantizeLinear", "not zero", "prepare the graph"),
    'y = ScatterElements <reduction = "add"> (x, g, x)': ("ScatterElements", "reduces", "MatMul"),
    "y, q = Attention <q_num_heads = 1, kv_num_heads = 1> (h, h, h)": (
        *("Attention", "one output", "--opset 22"),
    ),
    "y = Attention <q_num_heads = 1, kv_num_heads = 1, softcap = 2.0> (h, h, h)": (
        *("Attention", "softcap", "--opset 22"),
    ),
    "k = Cast <to = 7> (t)\nr = Reshape(k, one)\ny = Slice(x, zero, r)": (
        *("Slice", "float input t", "int64 input"),
    ),
    "y = If(b) <then_branch = o () => (a) {a = If(b) <then_branch = p () => (v) {v = Neg(x)}, "
    "else_branch = q () => (w) {w = Abs(x)}>}, else_branch = r () => (z) {z = Neg(x)}>": (
        *("If", "inside another If", "one behind the other"),
    ),
}
INPUTS = "float[n,4] x, float[n,2,4] h, bool[n] c, float t, int64[n,4] g, bool b, double[n] wide"
CONSTANTS = (
    "<int64[1] big = {4000}, int64[1] few = {2}, uint8 u = {128}, int8 n = {3}, "
    "int64[1] one = {1}, int64[1] zero = {0}>"
)


def model(body: str, inputs: str = INPUTS) -> ir.Model:
    text = f"g ({inputs}) => (y) {CONSTANTS} {{\n{body}\n}}"
    import onnx

    parsed = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 23, "com.x" : 1]>{text}'
    )
    parsed.graph.output[0].type.tensor_type.elem_type = 1
    return ir.from_proto(parsed)


@pytest.mark.parametrize("body", CASES)
def test_a_problem_names_node_reason_and_way_out(body: str):
    found = find_problems(model(body, INPUTS.partition(", double")[0]))
    kind, reason, way_out = CASES[body]
    assert kind in {problem.operator for problem in found}
    problem = next(each for each in found if each.operator == kind and reason in each.reason)
    assert way_out in problem.way_out
    assert str(problem).endswith(".")
    assert problem.node


def test_other_domains_and_types_are_refused():
    found = " ".join(map(str, find_problems(model("y = com.x.Fused(x)"))))
    assert "operators of com.x are not known" in found
    assert "wide (input): an input of type DOUBLE" in found


def test_targets_have_limits_of_their_own():
    plain = graph("g (float[n,4] x, float[4,4] w) => (float[n,4] y) {\n y = MatMul(x, w)\n}")
    assert find_problems(plain, ["SM86", "sm120"]) == []
    [problem] = find_problems(plain, ["sm86", "SM75"])
    assert "SM75 has no products in float32" in str(problem)
    eight = graph(
        "g (float[n,4] x, float s, float8e4m3fn z) => (float[n,4] y) {\n"
        " q = QuantizeLinear(x, s, z)\n y = DequantizeLinear(q, s, z)\n}",
        opset=19,
    )
    assert "FP8" in " ".join(map(str, find_problems(eight, ["sm80", "sm89"])))
    assert "sm89" not in " ".join(map(str, find_problems(eight, ["sm80", "sm89"])))

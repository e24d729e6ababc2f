"""Products in int8, against integer arithmetic in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from effbert.graph_passes.int8 import Range, quantize_products, quantize_weight
from effbert.graph_passes.products import weighted_products
from graphs import graph, operators, run
from weighted_graphs import normal, weighted

TEXT = """
products (float[rows,64] x, float[1,rows,64] x3, float[64,48] w, float[48] b,
          float[48,64] v, float[48] c, float[48,48] u, float[48,40] head, float[40] bias)
    => (float[1,rows,48] matmul, float[rows,48] gemm, float[rows,48] twice, float[rows,40] answer)
{
    product = MatMul(x3, w)
    sum = Add(product, b)
    matmul = Neg(sum)
    pooled = Gemm <transB = 1> (x, v, c)
    gemm = Tanh(pooled)
    first = MatMul(gemm, u)
    middle = Tanh(first)
    second = MatMul(middle, u)
    twice = Tanh(second)
    classified = MatMul(gemm, head)
    answer = Add(classified, bias)
}
"""
WEIGHTS = {
    "w": normal(64, 48, seed=1) * np.logspace(-3, 2, 48, dtype=np.float32),
    "b": normal(48, seed=2),
    "v": normal(48, 64, seed=3, scale=0.05),
    "c": normal(48, seed=4),
    "u": normal(48, 48, seed=5, scale=0.2),
    "head": normal(48, 40, seed=6),
    "bias": normal(40, seed=7),
}
X = normal(7, 64)
FEEDS = {"x": X, "x3": X[None]}
TANH = Range(-1, 1)
WHOLE = Range(float(X.min()), float(X.max()))


def quantized(kept: Range = WHOLE, **weights: np.ndarray) -> ir.Model:
    model = weighted(TEXT, WEIGHTS | weights)
    products = weighted_products(model)
    rounded = {str(p.weight.name): quantize_weight(p.matrix) for p in products}
    ranges = {"x": kept, "x3": kept, "gemm": TANH, "middle": TANH}
    quantize_products(model, products, ranges, rounded)
    return model


def integers(x: np.ndarray, weight: np.ndarray, kept: Range) -> np.ndarray:
    """What `x @ weight` is in integers, float64."""
    step, zero = kept.scale()
    levels, scales = quantize_weight(weight)
    codes = np.clip(np.rint(x / step) + zero, 0, 255).astype(np.int64) - int(zero)
    return (codes @ levels.astype(np.int64)) * (np.float64(step) * scales)


def check(model: ir.Model, kept: Range = WHOLE, **changed: np.ndarray) -> None:
    found, weights = run(model, FEEDS), WEIGHTS | changed
    matmul = -integers(X, weights["w"], kept) - weights["b"]
    gemm = np.tanh(integers(X, weights["v"].T, kept) + weights["c"])
    np.testing.assert_allclose(found["matmul"][0], matmul, rtol=1e-5, atol=1e-4)
    step = kept.scale()[0] * np.abs(weights["v"]).max() / 127  # the bias is rounded to it
    np.testing.assert_allclose(found["gemm"], gemm, rtol=0, atol=max(1e-4, step))
    second = np.tanh(integers(found["gemm"], weights["u"], TANH)).astype(np.float32)
    twice = np.tanh(integers(second, weights["u"], TANH))
    np.testing.assert_allclose(found["twice"], twice, rtol=0, atol=0.02)  # a level of `middle`
    answer = found["gemm"].astype(np.float64) @ weights["head"] + weights["bias"]
    np.testing.assert_allclose(found["answer"], answer, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "kept", [WHOLE, Range(-1, 0.5), Range(0.1, 2), Range(-2, -0.1), Range(0, 0), Range(-1e-3, 9)]
)
def test_products_are_those_of_integers(kept: Range):
    check(quantized(kept), kept)


def test_zero_weights_and_columns_stay_zero():
    columns = WEIGHTS["w"].copy()
    columns[:, ::3] = 0
    check(quantized(w=columns), w=columns)
    nothing = np.zeros((64, 48), np.float32)
    found = run(quantized(w=nothing), FEEDS)["matmul"][0]
    np.testing.assert_array_equal(found, np.broadcast_to(-WEIGHTS["b"], found.shape))


@pytest.mark.parametrize("size", [0, 1e-9], ids=["zero", "tiny"])
def test_a_bias_survives_columns_without_weight(size: float):
    columns = WEIGHTS["v"].copy()
    columns[::3] *= size
    check(quantized(v=columns), v=columns)


def test_columns_have_scales_of_their_own():
    exact = -X @ WEIGHTS["w"] - WEIGHTS["b"]
    error = np.abs(run(quantized(), FEEDS)["matmul"][0] - exact).max(axis=0)
    assert (error <= 0.05 * np.abs(X @ WEIGHTS["w"]).max(axis=0)).all()


@pytest.mark.parametrize("kept", [WHOLE, Range(-1, 2), Range(0.5, 3), Range(-3, -1)])
def test_ranges_keep_zero_and_clip_the_rest(kept: Range):
    step, _ = kept.scale()
    found = kept.rounded(np.array([0, -100, 100, step], np.float32))
    assert found[0] == 0
    assert found[1] == pytest.approx(min(kept.lowest, 0), abs=float(step))
    assert found[2] == pytest.approx(max(kept.highest, 0), abs=float(step))


def test_a_weight_that_is_used_twice_is_stored_once():
    model = quantized()
    int8 = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    assert len([value for value in int8 if value.shape.rank() == 2]) == 3
    assert not {"w", "v", "u"} & {*model.graph.initializers}


def test_answers_narrow_weights_and_other_gemms_are_no_products():
    assert [p.name for p in weighted_products(weighted(TEXT, WEIGHTS))] == [
        *("product", "pooled", "first", "second")
    ]
    text = """
    others (float[rows,64] x, float[64,48] w, float[64,8] narrow, float[48] b, float[1,48] wide)
        => (float[rows,48] out, float[rows,8] small, float[rows,rows] square)
    {{
        product = Gemm {}
        out = Tanh(product)
        n = MatMul(x, narrow)
        small = Tanh(n)
        t = Transpose(x)
        s = MatMul(x, t)
        square = Tanh(s)
    }}
    """
    for gemm in ("(x, w)", "<alpha = 2.0> (x, w, b)", "<beta = 0.5> (x, w, b)", "(x, w, wide)"):
        weights = WEIGHTS | {"narrow": normal(64, 8), "wide": normal(1, 48)}
        assert weighted_products(weighted(text.format(gemm), weights)) == []
    assert weighted_products(graph(text.format("(x, w, b)"))) == []  # weights are inputs


def test_onnxruntime_computes_on_the_integers(tmp_path: Path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    model = quantized()
    assert operators(model).count("DequantizeLinear") == 4 + 4 + 1
    onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    nodes = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert nodes.count("MatMulIntegerToFloat") == 3
    assert nodes.count("QGemm") == 1
    assert "DequantizeLinear" not in nodes

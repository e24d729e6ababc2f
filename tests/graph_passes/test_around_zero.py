"""Quantized activations around zero, tables of integers, and scales in 16 bits, on small graphs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from effbert.graph_passes.int8 import Range, quantize_products, quantize_weight
from effbert.graph_passes.level_tables import widen_tables
from effbert.graph_passes.products import weighted_products
from effbert.graph_passes.refusal import PrepareError
from effbert.graph_passes.sixteen_bits import compute_in_16_bits
from effbert.graph_passes.stored import store_tables
from effbert.graph_passes.symmetric_int8 import make_symmetric
from graphs import graph, operators, run
from weighted_graphs import normal, weighted

TEXT = """
products (float[rows,64] x, float[1,rows,64] x3, float[64,48] w, float[48] b,
          float[48,64] v, float[48] c, float[48,48] u)
    => (float[1,rows,48] matmul, float[rows,48] gemm, float[rows,48] bare)
{
    product = MatMul(x3, w)
    sum = Add(product, b)
    matmul = Neg(sum)
    pooled = Gemm <transB = 1> (x, v, c)
    gemm = Tanh(pooled)
    second = MatMul(gemm, u)
    bare = Neg(second)
}
"""
WEIGHTS = {
    "w": normal(64, 48, seed=1),
    "b": normal(48, seed=2),
    "v": normal(48, 64, seed=3, scale=0.05),
    "c": normal(48, seed=4),
    "u": normal(48, 48, seed=5, scale=0.2),
}
X = normal(7, 64)
FEEDS = {"x": X, "x3": X[None]}


def quantized(kept: Range, **weights: np.ndarray) -> ir.Model:
    model = weighted(TEXT, WEIGHTS | weights)
    products = weighted_products(model)
    rounded = {str(p.weight.name): quantize_weight(p.matrix) for p in products}
    quantize_products(model, products, {"x": kept, "x3": kept, "gemm": Range(-1, 0.9)}, rounded)
    return model


@pytest.mark.parametrize("kept", [Range(-3, 3), Range(-1, 4), Range(0, 5), Range(-4, 0)])
def test_products_around_zero_are_those_before(kept: Range):
    model = quantized(kept)
    before = run(model, FEEDS)
    assert make_symmetric(model) == 3
    found = run(model, FEEDS)
    for name, value in before.items():
        # The bias of a Gemm was rounded to the step of its product, and is not any more.
        np.testing.assert_allclose(
            found[name], value, rtol=0, atol=0.05 if name == "bare" else 2e-3
        )
    np.testing.assert_allclose(found["matmul"], before["matmul"], rtol=0, atol=2e-4)
    kinds = {value.dtype for value in model.graph.initializers.values()}
    assert not {ir.DataType.UINT8, ir.DataType.INT32} & kinds
    assert make_symmetric(model) == 0


def test_a_product_without_a_bias_gets_one_only_where_it_lacks_something():
    shifted, centred = quantized(Range(-1, 4)), quantized(Range(-1, 4))
    make_symmetric(shifted)
    assert operators(shifted).count("Add") == operators(centred).count("Add") + 3 + 1


@pytest.mark.parametrize("reader", ["Tanh(d)", "MatMul(w, d)"])
def test_a_quantized_value_that_no_product_reads_is_refused(reader: str):
    text = f"""
    g (float[4,4] x, float[4,4] w) => (float[4,4] y) <float s = {{0.1}}, uint8 z = {{3}}> {{
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        y = {reader}
    }}
    """
    with pytest.raises(PrepareError, match="reads a quantized activation"):
        make_symmetric(graph(text))


TABLE = """
g (int64[rows,n] ids, float[5000,64] words, float[64,48] w) => (float[rows,n,48] y) {
    rows_ = Gather(words, ids)
    product = MatMul(rows_, w)
    y = Neg(product)
}
"""
WORDS = normal(5000, 64, seed=6) * np.logspace(-7, 1, 5000, dtype=np.float32)[:, None]


def test_levels_of_a_table_are_exact_in_float16():
    model = weighted(TABLE, {"words": WORDS, "w": WEIGHTS["w"]})
    store_tables(model)
    feeds = {"ids": np.array([[0, 1, 2500, 4999]])}
    before = run(model, feeds)["y"]
    assert widen_tables(model) == 1
    np.testing.assert_array_equal(run(model, feeds)["y"], before)
    kinds = {v.name: v.dtype for v in model.graph.initializers.values()}
    assert ir.DataType.FLOAT16 in kinds.values()
    assert ir.DataType.INT8 not in kinds.values()


def test_small_rows_of_a_table_survive_16_bits():
    model = weighted(TABLE, {"words": WORDS, "w": WEIGHTS["w"]})
    store_tables(model)
    feeds = {"ids": np.array([[2500, 3000, 4000, 4999]])}
    before = run(model, feeds)["y"]
    widen_tables(model)
    assert compute_in_16_bits(model, "fp16", ()) > 0
    error = np.abs(run(model, feeds)["y"] - before).max(axis=2)
    assert (error <= 4e-3 * np.abs(before).max(axis=2)).all()
    scales = [v for v in model.graph.initializers.values() if v.name.endswith(".scale")]
    assert [scale.dtype for scale in scales] == [ir.DataType.FLOAT]


@pytest.mark.parametrize("size, narrow", [(1.0, True), (1e-4, False)])
def test_scales_that_16_bits_would_lose_stay_in_float32(size: float, narrow: bool):
    model = quantized(Range(-3, 3), w=WEIGHTS["w"] * np.float32(size))
    make_symmetric(model)
    before = run(model, FEEDS)
    compute_in_16_bits(model, "fp16", ())
    of_weight = next(node for node in model.graph if node.name.startswith("product/MatMul.weight"))
    assert (of_weight.inputs[1].dtype == ir.DataType.FLOAT16) is narrow
    assert (of_weight.outputs[0].dtype == ir.DataType.FLOAT16) is narrow
    found = run(model, FEEDS)["matmul"]
    np.testing.assert_allclose(found, before["matmul"], rtol=0, atol=0.03)

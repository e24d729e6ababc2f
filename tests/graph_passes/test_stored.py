"""Weights in blocks, halves and integer tables: what they widen to, and how small they are."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from effbert.graph_passes.int8 import quantize_weight
from effbert.graph_passes.products import weighted_products
from effbert.graph_passes.stored import (
    BLOCK,
    round_blocks,
    store_blocks,
    store_halves,
    store_tables,
)
from effbert.runtime.engines.protocol import EngineSettings
from effbert.runtime.engines.table import open_engine
from graphs import operators
from weighted_graphs import normal, weighted

PRODUCTS = """
products (float[rows,96] x, float[96,64] w, float[64,64] u, float[64] b)
    => (float[rows,64] y, float[rows,64] z)
{
    first = MatMul(x, w)
    a = Tanh(first)
    second = MatMul(a, u)
    c = Tanh(second)
    third = MatMul(c, u)
    y = Tanh(third)
    pooled = Gemm(a, u, b)
    z = Tanh(pooled)
}
"""
SMALL = normal(96, 64, seed=1, scale=0.1)
SMALL[32:64, 5] = 0  # a block without a scale
WEIGHTS = {"w": SMALL, "u": normal(64, 64, seed=2, scale=0.1), "b": normal(64, seed=3)}
TABLES = """
tables (int64[rows,tokens] ids, int64[rows,tokens] few, float[5000,8] words, float[64,8] places)
    => (float[rows,tokens,8] y, float[rows,tokens,8] again, float[8,rows,tokens] crossed)
{
    a = Gather(words, ids)
    p = Gather(places, few)
    y = Add(a, p)
    b = Gather <axis = 0> (words, few)
    again = Neg(b)
    flat = Transpose(words)
    c = Gather <axis = 1> (flat, few)
    crossed = Neg(c)
}
"""
WORDS = normal(5000, 8, seed=4) * np.logspace(-2, 1, 5000, dtype=np.float32)[:, None]
WORDS[7] = 0
X = normal(5, 96)


def compute(model: ir.Model, precision: str = "fp32", **feeds: np.ndarray) -> dict[str, np.ndarray]:
    """Run a graph as the runtime does at a precision."""
    engine = open_engine("onnxruntime", EngineSettings(1, precision))
    return engine.load("graph", ir.to_proto(model).SerializeToString(), None).run(feeds)


def widened(weight: np.ndarray, bits: int) -> np.ndarray:
    levels, scales = round_blocks(weight, bits)
    return levels.astype(np.float32) * np.repeat(scales, BLOCK, axis=0)


@pytest.mark.parametrize("bits", [8, 4])
def test_blocks_are_within_half_a_step_of_the_weight(bits: int):
    levels, scales = round_blocks(SMALL, bits)
    assert levels.dtype == np.int8
    assert np.abs(levels).max() == 2 ** (bits - 1) - 1
    error = np.abs(widened(SMALL, bits) - SMALL)
    assert (error <= 0.5001 * np.repeat(scales, BLOCK, axis=0)).all()
    assert not widened(SMALL, bits)[32:64, 5].any()


@pytest.mark.parametrize("bits", [8, 4])
def test_products_use_what_blocks_widen_to(bits: int):
    model = weighted(PRODUCTS, WEIGHTS)
    store_blocks(model, weighted_products(model), bits)
    w, u = (widened(WEIGHTS[name], bits) for name in "wu")
    a = np.tanh(X @ w)
    expected = np.tanh(np.tanh(a @ u) @ u)
    found = compute(model, x=X)
    np.testing.assert_allclose(found["y"], expected, rtol=0, atol=1e-5)
    pooled = np.tanh(a @ WEIGHTS["u"] + WEIGHTS["b"])  # a Gemm keeps its weight
    np.testing.assert_allclose(found["z"], pooled, rtol=0, atol=1e-5)
    rounded = compute(model, f"int{bits}-weight", x=X)["y"]
    np.testing.assert_allclose(rounded, expected, rtol=0, atol=0.02)
    kind = ir.DataType.INT4 if bits == 4 else ir.DataType.INT8
    assert [v.dtype for v in model.graph.initializers.values()].count(kind) == 2


def test_weights_that_do_not_split_into_blocks_stay():
    weights = {"w": normal(80, 64), "u": WEIGHTS["u"], "b": WEIGHTS["b"]}
    text = PRODUCTS.replace("96", "80")
    model = weighted(text, weights)
    store_blocks(model, weighted_products(model)[:1], 8)
    assert operators(model) == operators(weighted(text, weights))


def test_large_tables_have_a_scale_for_each_row_and_are_stored_once():
    places = normal(64, 8, seed=5)
    model = weighted(TABLES, {"words": WORDS, "places": places})
    few, ids = np.array([[0, 7, 63]]), np.array([[4999, 7, 0]])
    before = compute(model, ids=ids, few=few)
    store_tables(model)
    levels, scales = quantize_weight(WORDS, axis=1)
    rows = levels * scales[:, None]
    found = compute(model, ids=ids, few=few)
    np.testing.assert_allclose(found["y"], rows[ids] + places[few], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["again"], -rows[few], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found["crossed"], before["crossed"])  # read otherwise: stays
    assert (np.abs(rows - WORDS) <= 0.5001 * scales[:, None]).all()
    kinds = [value.dtype for value in model.graph.initializers.values()]
    assert kinds.count(ir.DataType.INT8) == 1
    assert "places" in model.graph.initializers


@pytest.mark.parametrize("precision, kind", [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_halves_are_widened_again(precision: str, kind: type):
    model = weighted(PRODUCTS, WEIGHTS)
    store_halves(model, precision)
    w, u = (WEIGHTS[name].astype(kind).astype(np.float32) for name in "wu")
    a = np.tanh(X @ w)
    found = compute(model, precision, x=X)
    np.testing.assert_allclose(found["y"], np.tanh(np.tanh(a @ u) @ u), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["z"], np.tanh(a @ u + WEIGHTS["b"]), rtol=0, atol=1e-5)
    sizes = {name: value.const_value.nbytes for name, value in model.graph.initializers.items()}
    assert sizes == {f"w.{precision}": 2 * 96 * 64, f"u.{precision}": 2 * 64 * 64, "b": 4 * 64}


@pytest.mark.parametrize("precision, kind", [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_tables_of_halves_serve_all_who_read_them(precision: str, kind: type):
    model = weighted(TABLES, {"words": WORDS, "places": normal(64, 8, seed=5)})
    few, ids = np.array([[0, 7, 63]]), np.array([[4999, 7, 0]])
    store_halves(model, precision)
    rows = WORDS.astype(kind).astype(np.float32)
    found = compute(model, precision, ids=ids, few=few)
    np.testing.assert_array_equal(found["again"], -rows[few])
    np.testing.assert_array_equal(found["crossed"], -rows.T[:, few])
    assert "words" not in model.graph.initializers
    assert "places" in model.graph.initializers  # too small to be worth it

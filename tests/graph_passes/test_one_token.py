"""A head that reads one token makes the rest of its layer needless."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from effbert.graph_passes.one_token import compute_one_token
from effbert.graph_passes.pipeline import remove_unused
from graphs import graph, run

# A layer of width 4 with two attention heads of 2; `deeper` is read elsewhere where asked for.
LAYER = """
model (float[batch, sequence, 4] x, float[batch, 1, 1, sequence] mask) => ({outputs})
<float[4, 4] wq = {{{w}}}, float[4, 4] wk = {{{v}}}, float[4] scale = {{1, 2, 1, 2}},
 int64[4] split = {{0, 0, 2, 2}}, int64[3] join = {{0, 0, 4}}, int64 token = {{{token}}},
 int64 other = {{0}}>
{{
    before = MatMul (x, wk)
    q0 = MatMul (before, wq)
    k0 = MatMul (before, wk)
    q1 = Reshape (q0, split)
    k1 = Reshape (k0, split)
    q = Transpose <perm = [0, 2, 1, 3]> (q1)
    k = Transpose <perm = [0, 2, 3, 1]> (k1)
    v = Transpose <perm = [0, 2, 1, 3]> (k1)
    scores = MatMul (q, k)
    masked = Add (scores, mask)
    p = Softmax <axis = -1> (masked)
    c0 = MatMul (p, v)
    c1 = Transpose <perm = [0, 2, 1, 3]> (c0)
    c = Reshape (c1, join)
    sum = Sum (c, before)
    deeper = LayerNormalization (sum, scale)
    wide = MatMul (deeper, wq)
    act = Tanh (wide)
    hidden = Sum (act, deeper)
    read = Gather <axis = 1> (hidden, token)
    also = Gather <axis = 1> (hidden, other)
    y = Tanh (read)
}}
"""
NUMBERS = ", ".join(str(round(0.13 * (n % 7) - 0.3, 2)) for n in range(16))
OTHERS = ", ".join(str(round(0.11 * (n % 5) - 0.2, 2)) for n in range(16))


def layer(outputs: str = "float[batch, 4] y", token: int = 0) -> ir.Model:
    text = LAYER.format(outputs=outputs, w=NUMBERS, v=OTHERS, token=token)
    model = graph(text)
    remove_unused(model)
    return model


def inputs(rows: int, tokens: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    mask = np.zeros((rows, 1, 1, tokens), np.float32)
    mask[0, ..., tokens // 2 :] = -1e9
    return {"x": random.normal(size=(rows, tokens, 4)).astype(np.float32), "mask": mask}


def extents(model: ir.Model, name: str) -> list[str]:
    [found] = [v for node in model.graph for v in node.outputs if v.name == name]
    return [str(extent) for extent in found.shape]


@pytest.mark.parametrize("rows, tokens", [(1, 4), (3, 9)])
def test_the_answer_stays_the_same(rows: int, tokens: int):
    model = layer()
    expected = run(model, inputs(rows, tokens))
    compute_one_token(model)
    found = run(model, inputs(rows, tokens))
    np.testing.assert_allclose(found["y"], expected["y"], atol=1e-6, rtol=0)


def test_only_keys_and_values_are_computed_for_all_tokens():
    model = layer()
    compute_one_token(model)
    for name in ("q0", "scores", "c", "deeper", "wide", "hidden"):
        assert "sequence" not in extents(model, name)[:3] or name == "scores"
    assert extents(model, "scores") == ["batch", "2", "2", "sequence"]
    for name in ("before", "k0", "v"):
        assert "sequence" in extents(model, name)


def test_what_others_read_is_computed_for_all_tokens():
    model = layer("float[batch, 4] y, float[batch, sequence, 4] deeper")
    compute_one_token(model)
    assert extents(model, "deeper") == ["batch", "sequence", "4"]
    assert extents(model, "wide") == ["batch", "2", "4"]


@pytest.mark.parametrize(
    "outputs",
    [
        "float[batch, 4] y, float[batch, sequence, 4] hidden",
        "float[batch, 4] y, float[batch, 4] also",
    ],
    ids=["hidden state", "another token"],
)
def test_a_layer_that_is_read_in_full_stays(outputs: str):
    model = layer(outputs, token=2)
    kinds = [node.op_type for node in model.graph]
    compute_one_token(model)
    assert [node.op_type for node in model.graph] == kinds

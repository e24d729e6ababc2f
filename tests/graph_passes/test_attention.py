"""Attention as one operator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from effbert.graph_passes.attention import fuse_attention
from effbert.graph_passes.flops import count_flops
from graphs import graph, operators, run

HEADS, SIZE = 2, 4
ATTENTION = """
attention (float[batch,{queries},8] query, float[batch,sequence,8] key,
           float[batch,sequence,8] value, float[batch,{masks},{rows},sequence] mask)
    => (float[{context}] context{more})
<int64[4] split = {{0, 0, 2, 4}}, int64[4] split_keys = {{0, 0, {key_heads}, {key_size}}},
 int64[{joins}] join = {{{join}}}, float scale = {{{scale}}}>
{{
    q4 = Reshape(query, split)
    q = Transpose <perm = [0, 2, 1, 3]> (q4)
    k4 = Reshape(key, split_keys)
    k = Transpose <perm = [0, 2, 3, 1]> (k4)
    v4 = Reshape(value, split)
    v = Transpose <perm = [0, 2, 1, 3]> (v4)
    products = MatMul(q, k)
    scaled = Mul(products, scale)
    masked = Add(scaled, mask)
    shares = Softmax <axis = -1> (masked)
    mixed = MatMul(shares, v)
    back = Transpose <perm = [0, 2, 1, 3]> (mixed)
    context = Reshape(back, join)
}}
"""


def attention(
    queries: str | int = "sequence",
    masks: int = 1,
    rows: str | int = 1,
    opset: int = 23,
    more: str = "",
    key_heads: int = 2,
    key_size: int = 4,
    scale: float = 0.3,
    join: str = "0, 0, 8",
) -> ir.Model:
    joins = join.count(",") + 1
    context = f"batch,{queries},8" if joins == 3 else f"batch,{queries},2,4"
    return graph(ATTENTION.format(**locals()), opset)


def feeds(queries: int, masks: int, rows: int, tokens: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    dense = {
        "query": rng.standard_normal((3, queries, HEADS * SIZE)),
        "key": rng.standard_normal((3, tokens, HEADS * SIZE)),
        "value": rng.standard_normal((3, tokens, HEADS * SIZE)),
    }
    mask = np.zeros((3, masks, rows, tokens))
    mask[1, :, :, 3:] = np.finfo(np.float32).min
    return {name: each.astype(np.float32) for name, each in {**dense, "mask": mask}.items()}


@pytest.mark.parametrize("queries", ["sequence", 2])
@pytest.mark.parametrize("masks", [1, HEADS])
@pytest.mark.parametrize("rows", [1, "every"])
def test_one_operator_computes_the_same(queries: str | int, masks: int, rows: int | str):
    count = 5 if queries == "sequence" else int(queries)
    rows = queries if rows == "every" else rows
    inputs = feeds(count, masks, 1 if rows == 1 else count)
    wanted = run(attention(queries, masks, rows), inputs)["context"]
    model = attention(queries, masks, rows)
    fuse_attention(model)
    assert "Attention" in operators(model)
    assert not {"Softmax", "MatMul", "Transpose"} & {*operators(model)}
    np.testing.assert_allclose(run(model, inputs)["context"], wanted, rtol=0, atol=1e-6)


def test_heads_that_others_read_too_are_no_obstacle():
    model = attention(more=", float[batch,sequence,2,4] q4")
    fuse_attention(model)
    assert "Attention" in operators(model)
    assert operators(model).count("Reshape") == 1


def test_flops_stay_the_same():
    model = attention()
    before = count_flops(model)
    fuse_attention(model)
    assert count_flops(model) == before == (0, 0, 2 * 2 * HEADS * SIZE)


@pytest.mark.parametrize(
    "options",
    [
        {"opset": 22},
        {"more": ", float[batch,2,sequence,sequence] shares"},
        {"key_heads": 4, "key_size": 2},
        {"scale": -0.3},
        {"join": "0, 0, 2, 4"},
        {"rows": "others"},
    ],
    ids=[
        *("older opset", "shares are read elsewhere", "heads differ"),
        *("scale is negative", "heads stay apart", "mask has rows of its own"),
    ],
)
def test_what_has_no_such_operator_stays(options: dict):
    model = attention(**options)
    before = operators(model)
    fuse_attention(model)
    assert operators(model) == before

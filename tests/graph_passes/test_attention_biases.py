"""Attention without the biases that it does not need."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from effbert.graph_passes.attention_biases import fold_attention_biases
from graphs import operators, run
from weighted_graphs import normal, weighted

NAMES = ("query", "key", "value", "output")
WEIGHTS = {f"w_{name}": normal(8, 8, seed=i, scale=0.4) for i, name in enumerate(NAMES)}
WEIGHTS |= {f"b_{name}": normal(8, seed=9 + i) for i, name in enumerate(NAMES)}
INPUTS = "float[batch,tokens,8] x, float[batch,1,tokens,tokens] mask, " + ", ".join(
    f"float[8,8] w_{name}, float[8] b_{name}" for name in NAMES
)
LAYER = """
    {n}q0 = MatMul({x}, w_query)
    {n}q = Add({n}q0, b_query)
    {n}k0 = MatMul({x}, w_key)
    {n}k = Add(b_key, {n}k0)
    {n}v0 = MatMul({x}, w_value)
    {n}v = Add({n}v0, b_value)
    {n}context = Attention <q_num_heads = 2, kv_num_heads = 2, scale = 0.2> ({n}q, {n}k, {n}v, mask)
    {n}o0 = MatMul({n}context, w_output)
    {n}y = Add({n}o0, b_output)
"""


def layers(count: int = 1, more: str = "", extra: str = "", without: str = "") -> ir.Model:
    """Attention layers that share their weights; `without` leaves a bias out."""
    body = "".join(LAYER.format(n=f"l{i}", x=f"l{i - 1}y" if i else "x") for i in range(count))
    lines = [line.replace("Add(l0o0, b_output)", "Tanh(l0o0)") for line in body.splitlines()]
    text = "\n".join(lines if without == "output" else body.splitlines())
    outputs = f"float[batch,tokens,8] l{count - 1}y{more}"
    return weighted(f"layers ({INPUTS}) => ({outputs}) {{ {text} {extra} }}", WEIGHTS, 23)


def feeds() -> dict[str, np.ndarray]:
    mask = np.zeros((3, 1, 5, 5), np.float32)
    mask[1, :, :, 3:] = np.finfo(np.float32).min
    return {"x": normal(3, 5, 8, seed=20), "mask": mask}


def check(model: ir.Model, same_as: ir.Model) -> None:
    expected, found = run(same_as, feeds()), run(model, feeds())
    for name, values in expected.items():
        scale = max(1, np.abs(values).max())
        np.testing.assert_allclose(found[name] / scale, values / scale, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_biases_of_keys_and_values_go_and_answers_stay(count: int):
    model = layers(count)
    fold_attention_biases(model)
    assert operators(model).count("Add") == 2 * count
    assert not {"b_key", "b_value"} & {*model.graph.initializers}
    check(model, layers(count))


@pytest.mark.parametrize(
    "options",
    [
        {"more": ", float[batch,tokens,8] l0context"},
        {"more": ", float[batch,tokens,8] other", "extra": "other = Neg(l0context)"},
        {"more": ", float[batch,tokens,8] other", "extra": "other = Neg(l0o0)"},
        {"without": "output"},
    ],
    ids=["an output", "context read elsewhere", "product read elsewhere", "no bias behind"],
)
def test_the_bias_of_values_stays_where_nothing_takes_it_in(options: dict[str, str]):
    model, before = layers(**options), layers(**options)
    fold_attention_biases(model)
    assert "b_key" not in model.graph.initializers
    assert "b_value" in model.graph.initializers
    assert operators(model).count("Add") == operators(before).count("Add") - 1
    check(model, before)


def test_biased_values_that_others_read_too_stay_for_them():
    options = {"more": ", float[batch,tokens,8] other", "extra": "other = Neg(l0v)"}
    model = layers(**options)
    fold_attention_biases(model)
    assert "b_key" not in model.graph.initializers
    check(model, layers(**options))


def test_attention_that_is_spelled_out_stays():
    spelled = """
    k0 = MatMul(x, w_key)
    k = Add(k0, b_key)
    t = Transpose <perm = [0, 2, 1]> (k)
    scores = MatMul(x, t)
    shares = Softmax <axis = -1> (scores)
    v0 = MatMul(x, w_value)
    v = Add(v0, b_value)
    context = MatMul(shares, v)
    o0 = MatMul(context, w_output)
    y = Add(o0, b_output)
    """
    text = f"spelled ({INPUTS}) => (float[batch,tokens,8] y) {{ {spelled} }}"
    model = weighted(text, WEIGHTS, 22)
    before = operators(model)
    fold_attention_biases(model)
    assert operators(model) == before

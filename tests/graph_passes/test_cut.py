"""Cutting a graph at its exits."""

from __future__ import annotations

import numpy as np
import pytest

from effbert.graph_passes.cut import Exit, cut
from graphs import graph, operators, run, value

# Two layers over a mask, two exits whose answers add up a running sum.
TWO_LAYERS = """
model (float[batch, sequence, 4] x, int64[batch, sequence] mask) => (
    float[batch, 4] first, float[batch, 4] second)
<float[4, 4] w1 = {W1}, float[4, 4] w2 = {W2}, int64[1] last = {2}, int64[1] one = {1},
 float low = {-9.0}, int64 zero = {0}>
{
    present = Cast <to = 1> (mask)
    column = Unsqueeze (present, last)
    blocked = Mul (column, low)
    product1 = MatMul (x, w1)
    masked1 = Add (product1, blocked)
    hidden1 = Tanh (masked1)
    first = ReduceMax <keepdims = 0> (hidden1, one)
    product2 = MatMul (hidden1, w2)
    masked2 = Add (product2, blocked)
    hidden2 = Tanh (masked2)
    answer2 = ReduceMax <keepdims = 0> (hidden2, one)
    second = Add (first, answer2)
}
"""
for seed, name in enumerate(("W1", "W2")):
    weights = np.random.default_rng(seed).normal(size=16)
    TWO_LAYERS = TWO_LAYERS.replace(name, ", ".join(f"{weight:.2f}" for weight in weights))


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    mask = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    return {"x": random.normal(size=(3, 5, 4)).astype(np.float32), "mask": mask}


@pytest.fixture
def segments():
    model = graph(TWO_LAYERS)
    exits = [
        Exit(value(model, "hidden1"), {"logits": value(model, "first")}),
        Exit(value(model, "hidden2"), {"logits": value(model, "second")}),
    ]
    return cut(model, exits)


def test_the_chain_computes_what_the_whole_graph_computes(segments, feeds) -> None:
    whole = run(graph(TWO_LAYERS), feeds)
    first = run(segments[0].model, feeds)
    carried = {name: first[source] for name, source in segments[0].carries.items()}
    second = run(segments[1].model, feeds | carried)
    np.testing.assert_array_equal(first["logits"], whole["first"])
    np.testing.assert_array_equal(second["logits"], whole["second"])


def test_hidden_state_and_running_sum_are_carried(segments) -> None:
    assert segments[0].carries == {"hidden": "hidden_out", "carry_first": "carry_first_out"}
    assert segments[1].carries == {}


def test_the_mask_is_computed_again(segments) -> None:
    assert {v.name for v in segments[1].model.graph.inputs} == {"hidden", "carry_first", "mask"}
    assert operators(segments[1].model)[:3] == ["Cast", "Unsqueeze", "Mul"]


def test_each_segment_holds_its_own_weights_only(segments) -> None:
    names = [set(part.model.graph.initializers) for part in segments]
    assert "w1" in names[0]
    assert "w2" in names[1]
    assert "w2" not in names[0]
    assert "w1" not in names[1]


def test_a_weight_used_twice_is_one_tensor_in_both_segments() -> None:
    model = graph(TWO_LAYERS.replace("MatMul (hidden1, w2)", "MatMul (hidden1, w1)"))
    exits = [
        Exit(value(model, f"hidden{k}"), {"logits": value(model, n)})
        for k, n in ((1, "first"), (2, "second"))
    ]
    first, second = (part.model.graph.initializers["w1"] for part in cut(model, exits))
    assert first.const_value is second.const_value


def test_the_graph_itself_is_left_alone(feeds) -> None:
    model = graph(TWO_LAYERS)
    before = operators(model)
    cut(model, [Exit(value(model, "hidden1"), {"logits": value(model, "first")})])
    assert operators(model) == before


def test_layers_above_the_last_exit_are_dropped() -> None:
    model = graph(TWO_LAYERS)
    (only,) = cut(model, [Exit(value(model, "hidden1"), {"logits": value(model, "first")})])
    assert operators(only.model).count("MatMul") == 1
    assert only.carries == {}

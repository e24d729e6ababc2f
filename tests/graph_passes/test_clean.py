"""The passes that clean a traced graph, one by one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from effbert.graph_passes.deduplicate import deduplicate_weights
from effbert.graph_passes.dimensions import name_dimensions
from effbert.graph_passes.flops import count_flops, count_parameters
from effbert.graph_passes.module_names import SCOPES, name_after_modules
from effbert.graph_passes.reshape import constant_reshapes
from effbert.graph_passes.residuals import sum_residuals
from effbert.graph_passes.share import ALIGNMENT, share_weights
from effbert.graph_passes.transposes import fold_weight_transposes
from graphs import graph, operators, run, value

HEADS = """
model (float[s1, s2, 6] x, int64[s1, s2] ids) => (float[s1, s2, 2, 3] y)
<int64[1] heads = {2}, int64[1] size = {3}>
{
    rows = Shape <start = 0, end = 1> (ids)
    columns = Shape <start = 1, end = 2> (ids)
    target = Concat <axis = 0> (rows, columns, heads, size)
    y = Reshape (x, target)
}
"""
RESIDUAL = """
model (float[batch, 3] x, float[batch, 3] y) => (float[batch, 3] z, float[batch, 3] w)
<float[3] scale = {1, 2, 3}>
{
    both = Add (x, y)
    z = LayerNormalization (both, scale)
    w = Add (z, y)
}
"""
SHARED = """
model (float[batch, 3] x) => (float[batch, 3] y)
<float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[3, 3] v = {1, 4, 7, 2, 5, 8, 3, 6, 9}>
{
    turned = Transpose <perm = [1, 0]> (w)
    once = MatMul (x, turned)
    again = Transpose <perm = [1, 0]> (w)
    twice = MatMul (once, again)
    y = MatMul (twice, v)
}
"""


def test_dimensions_get_the_names_of_the_contract() -> None:
    model = graph(HEADS)
    name_dimensions(model)
    assert str(model.graph.inputs[0].shape) == "[batch,sequence,6]"


def test_a_dimension_inside_an_expression_is_renamed() -> None:
    model = graph(HEADS)
    value(model, "y").shape = ir.Shape(["s1", "Min(512, s2)", 2, 3])
    name_dimensions(model)
    assert str(value(model, "y").shape[1]) == "Min(512, sequence)"


def test_extents_that_are_counted_out_are_tokens_and_their_multiples_heads() -> None:
    model = graph(HEADS)
    value(model, "y").shape = ir.Shape(["s1", "u1", "12*u4", "u1 - 1"])
    name_dimensions(model)
    assert str(value(model, "y").shape) == "[batch,tokens_1,heads_4,tokens_1 - 1]"


def test_a_computed_reshape_becomes_constant() -> None:
    model = graph(HEADS)
    value(model, "y").shape = ir.Shape(["s1", "s2", 2, 3])
    constant_reshapes(model)
    reshape = next(node for node in model.graph if node.op_type == "Reshape")
    assert reshape.inputs[1].const_value.numpy().tolist() == [0, 0, 2, 3]
    x = np.arange(60, dtype=np.float32).reshape(2, 5, 6)
    answer = run(model, {"x": x, "ids": np.zeros((2, 5), np.int64)})["y"]
    np.testing.assert_array_equal(answer, x.reshape(2, 5, 2, 3))


@pytest.mark.parametrize(
    "after, target",
    [(["s1", "s2", 6], [0, 0, 6]), (["2*s1", "s2", 3], [-1, 0, 3]), (["s1", 2, "a"], [0, 2, -1])],
)
def test_one_open_extent_is_inferred(after: list, target: list) -> None:
    model = graph(HEADS)
    value(model, "y").shape = ir.Shape(after)
    constant_reshapes(model)
    reshape = next(node for node in model.graph if node.op_type == "Reshape")
    assert reshape.inputs[1].const_value.numpy().tolist() == target


def test_an_addition_that_is_normalized_becomes_a_sum() -> None:
    model = graph(RESIDUAL)
    generator = np.random.default_rng(0)
    feeds = {name: generator.standard_normal((2, 3), np.float32) for name in "xy"}
    before = run(model, feeds)
    sum_residuals(model)
    assert operators(model) == ["Sum", "LayerNormalization", "Add"]
    for name, expected in before.items():
        np.testing.assert_allclose(run(model, feeds)[name], expected, atol=1e-6)


def test_a_reshape_with_two_open_extents_is_left_alone() -> None:
    model = graph(HEADS)
    value(model, "y").shape = ir.Shape(["a", "b", 3])
    constant_reshapes(model)
    reshape = next(node for node in model.graph if node.op_type == "Reshape")
    assert reshape.inputs[1].const_value is None


def test_transposed_weights_are_stored_transposed_once() -> None:
    model, x = graph(SHARED), np.eye(3, dtype=np.float32)
    before = run(model, {"x": x})["y"]
    fold_weight_transposes(model)
    matmuls = [node for node in model.graph if node.op_type == "MatMul"]
    assert matmuls[0].inputs[1] is matmuls[1].inputs[1]
    np.testing.assert_array_equal(run(model, {"x": x})["y"], before)


def test_equal_weights_become_one() -> None:
    model = graph(SHARED)
    fold_weight_transposes(model)
    deduplicate_weights(model)
    weights = {node.inputs[1] for node in model.graph if node.op_type == "MatMul"}
    assert len(weights) == 1


def test_weights_that_differ_in_one_element_stay_two() -> None:
    model = graph(SHARED.replace("8, 3, 6, 9}", "8, 3, 6, 8}"))
    fold_weight_transposes(model)
    deduplicate_weights(model)
    weights = {node.inputs[1] for node in model.graph if node.op_type == "MatMul"}
    assert len(weights) == 2


def big(name: str, tensor: ir.TensorProtocol) -> ir.Model:
    weight = ir.Value(name=name, shape=tensor.shape, const_value=tensor)
    return ir.Model(ir.Graph([], [], nodes=[], initializers=[weight]), ir_version=10)


def test_large_weights_of_two_segments_move_to_one_file() -> None:
    shared = ir.tensor(np.ones((130, 130), np.float32))
    other = ir.tensor(np.zeros((200, 200), np.float32))
    models = [big("a", shared), big("b", shared), big("c", other), big("d", other)]
    assert share_weights(models, "weights.bin") == [shared, other]
    places = [next(iter(m.graph.initializers.values())).const_value for m in models]
    assert [place.location for place in places] == ["weights.bin"] * 4
    assert [place.offset for place in places] == [0, 0, 2 * ALIGNMENT, 2 * ALIGNMENT]
    assert [place.length for place in places] == [67600, 67600, 160000, 160000]


def test_small_or_single_weights_stay_inside() -> None:
    small, single = (ir.tensor(np.ones((n, n), np.float32)) for n in (64, 200))
    models = [big("a", small), big("b", small), big("c", single)]
    assert share_weights(models, "weights.bin") == []
    assert models[2].graph.initializers["c"].const_value is single


def test_flops_are_a_polynomial_of_the_length() -> None:
    text = """
    model (float[batch, sequence, 8] x) => (float[batch, 5] y)
    <float[8, 4] w = {WEIGHT}, float[4, 5] c = {CLASSIFIER}, int64 zero = {0}>
    {
        key = MatMul (x, w)
        turned = Transpose <perm = [0, 2, 1]> (key)
        scores = MatMul (key, turned)
        mixed = MatMul (scores, key)
        first = Gather <axis = 1> (mixed, zero)
        y = MatMul (first, c)
    }
    """
    for name, count in (("WEIGHT", 32), ("CLASSIFIER", 20)):
        text = text.replace(name, ", ".join(["0.5"] * count))
    model = graph(text)
    # projection 8 x 4 a token; scores and mixing 4 each a pair of tokens; classifier 4 x 5.
    assert count_flops(model) == (2 * 20, 2 * 32, 2 * (4 + 4))
    assert count_parameters(model) == 52


def test_flops_leave_out_heads_that_are_looked_at_only_when_tokens_are_dropped() -> None:
    model = graph(
        "model (float[batch, heads_2, tokens_1, 4] x, float[batch, heads_2, 4, tokens_1] y)"
        " => (float[batch, heads_2, tokens_1, tokens_1] z) { z = MatMul (x, y) }"
    )
    assert count_flops(model) == (0, 0, 0)


def test_nodes_values_and_weights_are_named_after_their_module() -> None:
    model = graph(SHARED)
    for node in model.graph:
        node.metadata_props[SCOPES] = "['', 'model', 'model.backbone', 'model.backbone.query', 'x']"
    name_after_modules(model)
    first = next(node for node in model.graph if node.op_type == "MatMul")
    assert first.name == first.outputs[0].name == "query/MatMul"
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert "query.weight" in model.graph.initializers
    assert not any(node.metadata_props for node in model.graph)
    assert operators(model).count("MatMul") == 3

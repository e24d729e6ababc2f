"""Products in int8 that add their bias themselves: the same numbers, and only where they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from effbert.runtime.bundle.manifest import Tensor
from effbert.runtime.engines.onnxruntime.biases import DOMAIN, fuse_biases
from effbert.runtime.engines.onnxruntime.graph_bytes import Branch

ROWS, INNER, WIDTH = 5, 32, 32
FUSED = "com.microsoft.MatMulIntegerToFloat"
Edit = Callable[[onnx.GraphProto], None]


def product_and_bias() -> onnx.GraphProto:
    """`answer = Dequantize(Quantize(x)) @ Dequantize(weight) + bias`."""
    random = np.random.default_rng(0)
    constants = {
        "step": np.array(0.02, np.float32),
        "zero": np.array(121, np.uint8),
        "matrix": random.integers(-127, 128, (INNER, WIDTH)).astype(np.int8),
        "steps": random.uniform(0.001, 0.1, WIDTH).astype(np.float32),
        "zeros": np.zeros(WIDTH, np.int8),
        "bias": random.standard_normal(WIDTH).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "step", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["matrix", "steps", "zeros"], ["weight"], axis=1),
        helper.make_node("MatMul", ["rounded", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["answer"]),
    ]
    floats = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", None, width])
        for name, width in (("x", INNER), ("answer", WIDTH))
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return helper.make_graph(nodes, "g", floats[:1], floats[1:], weights)


def taken_apart(graph: onnx.GraphProto) -> Branch:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return Branch(model.SerializeToString(), {"x": "x"})


def answers(branch: Branch, graph: onnx.GraphProto, x: np.ndarray) -> np.ndarray:
    tensor = Tensor(name="answer", dtype="float32", axes=["batch", ROWS, WIDTH])
    again = onnx.GraphProto.FromString(branch.written([("answer", tensor)]))
    again.input.extend(graph.input)
    model = onnx.ModelProto.FromString(branch.versions)
    model.graph.CopyFrom(again)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["answer"], {"x": x})[0]


def test_sums_are_the_same_numbers() -> None:
    graph = product_and_bias()
    plain, fused = taken_apart(graph), taken_apart(graph)
    assert fuse_biases(fused, ["answer"])
    assert [node.operator for node in fused.nodes] == ["QuantizeLinear", FUSED]
    x = np.random.default_rng(1).standard_normal((2, ROWS, INNER)).astype(np.float32)
    np.testing.assert_array_equal(answers(fused, graph, x), answers(plain, graph, x))


def test_a_bias_may_come_first_and_the_axis_may_be_left_out() -> None:
    graph = product_and_bias()
    graph.node[4].input[:] = ["bias", "product"]
    del graph.node[2].attribute[:]
    assert fuse_biases(taken_apart(graph), ["answer"])


def test_what_others_read_too_stays() -> None:
    graph = product_and_bias()
    graph.node.append(helper.make_node("Neg", ["rounded"], ["others"]))
    graph.node.append(helper.make_node("Neg", ["weight"], ["more"]))
    branch = taken_apart(graph)
    assert fuse_biases(branch, ["answer", "others", "more"])
    left = [node.operator for node in branch.nodes]
    assert left.count("DequantizeLinear") == 2
    assert "MatMul" not in left
    x = np.random.default_rng(1).standard_normal((1, ROWS, INNER)).astype(np.float32)
    np.testing.assert_array_equal(answers(branch, graph, x), answers(taken_apart(graph), graph, x))


def replaced(name: str, array: np.ndarray) -> Edit:
    def edit(graph: onnx.GraphProto) -> None:
        weight = next(each for each in graph.initializer if each.name == name)
        weight.CopyFrom(numpy_helper.from_array(array, name))

    return edit


def attribute(place: int, name: str, number: int) -> Edit:
    def edit(graph: onnx.GraphProto) -> None:
        del graph.node[place].attribute[:]
        graph.node[place].attribute.append(helper.make_attribute(name, number))

    return edit


def operator(place: int, name: str, domain: str = "") -> Edit:
    def edit(graph: onnx.GraphProto) -> None:
        graph.node[place].op_type, graph.node[place].domain = name, domain

    return edit


def reader(value: str) -> Edit:
    return lambda graph: graph.node.append(helper.make_node("Neg", [value], ["other"]))


def inputs(place: int, *names: str) -> Edit:
    def edit(graph: onnx.GraphProto) -> None:
        graph.node[place].input[:] = names

    return edit


UNLIKE = {
    "the product is read elsewhere": reader("product"),
    "a bias for all columns": replaced("bias", np.ones(1, np.float32)),
    "a bias of two axes": replaced("bias", np.ones((1, WIDTH), np.float32)),
    "scales of rows": attribute(2, "axis", 0),
    "scales of blocks": attribute(2, "block_size", 16),
    "a scale for the whole weight": replaced("steps", np.array(0.1, np.float32)),
    "a difference": operator(4, "Sub"),
    "a product of another domain": operator(3, "MatMul", DOMAIN),
    "a product of another kind": operator(3, "Gemm"),
    "a weight that is added up": operator(2, "Sum"),
    "zero points in uint8": replaced("zeros", np.zeros(WIDTH, np.uint8)),
    "levels in int8": replaced("zero", np.array(0, np.int8)),
    "a scale for each level": replaced("step", np.full(INNER, 0.02, np.float32)),
    "a weight in uint8": replaced("matrix", np.ones((INNER, WIDTH), np.uint8)),
    "a weight of three axes": replaced("matrix", np.ones((1, INNER, WIDTH), np.int8)),
    "no zero point": inputs(1, "levels", "step"),
    "a sum with itself": inputs(4, "product", "product"),
    "a sum with an input": inputs(4, "product", "x"),
    "a product in float": inputs(3, "x", "weight"),
}


@pytest.mark.parametrize("edit", UNLIKE.values(), ids=UNLIKE.keys())
def test_other_sums_are_left_alone(edit: Edit) -> None:
    graph = product_and_bias()
    edit(graph)
    branch = taken_apart(graph)
    before = [(node.operator, node.inputs) for node in branch.nodes]
    assert not fuse_biases(branch, ["answer"])
    assert [(node.operator, node.inputs) for node in branch.nodes] == before


def test_a_product_that_is_an_answer_is_left_alone() -> None:
    branch = taken_apart(product_and_bias())
    assert not fuse_biases(branch, ["answer", "product"])

"""The matrix products of a graph that have a constant weight: what precision is about."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

NARROWEST = 32  # extents of a weight below which int8 saves nothing


class Product(NamedTuple):
    """A MatMul whose second input is a constant [in, out]; `name` is that of its module."""

    name: str
    node: ir.Node

    @property
    def activation(self) -> ir.Value:
        """What is multiplied, float32 [..., in]."""
        return self.node.inputs[0]  # type: ignore[return-value]

    @property
    def weight(self) -> ir.Value:
        """The constant, float32 [in, out]."""
        return self.node.inputs[1]  # type: ignore[return-value]


def weighted_products(model: ir.Model) -> list[Product]:
    """Find the products with a weight, in order.

    Those that make an answer of the segment (a classifier) are left out: they are small, and their
    rounding would be the answer's.
    """
    return [
        Product(_module(node), node)
        for node in model.graph
        if node.op_type == "MatMul" and _has_weight(node) and not _answers(node.outputs[0])
    ]


def spell_out_gemm(model: ir.Model) -> None:
    """Turn each Gemm with a weight that counts into MatMul and Add, in place.

    Poolers are Gemms, and it is MatMul that engines compute in int8.
    """
    graph = model.graph
    for node in [*graph]:
        if node.op_type != "Gemm" or not _is_plain(node) or not _has_weight(node):
            continue
        if _answers(node.outputs[0]) or len(node.inputs) != 3:
            continue
        rows, weight, bias = node.inputs
        if node.attributes.get_int("transB", 0):
            weight = _transposed(graph, weight)
        output, module = node.outputs[0], _module(node)
        product = ir.node("MatMul", [rows, weight], name=f"{module}/MatMul")
        product.outputs[0].name = product.name
        product.outputs[0].type, product.outputs[0].shape = output.type, output.shape
        add = ir.node("Add", [product.outputs[0], bias], name=f"{module}/Add")
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], [product, add], [output], [add.outputs[0]]
        )
    RemoveUnusedNodesPass()(model)  # weights as they were before


def _module(node: ir.Node) -> str:
    return (node.name or "").rpartition("/")[0]


def _has_weight(node: ir.Node) -> bool:
    weight = node.inputs[1]
    if weight is None or weight.const_value is None or weight.const_value.shape.rank() != 2:
        return False
    return min(weight.const_value.shape.numpy()) >= NARROWEST


def _answers(value: ir.Value) -> bool:
    """Tell whether a value is an output but for a bias."""
    if value.is_graph_output():
        return True
    readers = [use.node for use in value.uses()]
    return any(node.op_type == "Add" and node.outputs[0].is_graph_output() for node in readers)


def _is_plain(node: ir.Node) -> bool:
    factors = (node.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))
    return all(factor == 1 for factor in factors) and not node.attributes.get_int("transA", 0)


def _transposed(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    name = f"{weight.name}.transposed"
    if name not in graph.initializers:
        array = np.ascontiguousarray(weight.const_value.numpy().T)  # type: ignore[union-attr]
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        value.type, value.shape = weight.type, ir.Shape(array.shape)
        graph.register_initializer(value)
    return graph.initializers[name]

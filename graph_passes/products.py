"""The matrix products of a graph that have a constant weight: what precision is about."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

NARROWEST = 32  # extents of a weight below which lower precision saves nothing
KINDS = ("MatMul", "Gemm")  # Gemm: the poolers


class Product(NamedTuple):
    """A MatMul or Gemm whose second input is a constant; `name` is that of its module."""

    name: str
    node: ir.Node

    @property
    def activation(self) -> ir.Value:
        """What is multiplied, float32 [..., in]."""
        return self.node.inputs[0]

    @property
    def weight(self) -> ir.Value:
        """The constant, float32 [in, out], or [out, in] if `transposed`."""
        return self.node.inputs[1]

    @property
    def transposed(self) -> bool:
        """Whether the weight is stored the other way round."""
        return self.node.attributes.get_int("transB", 0) == 1

    @property
    def matrix(self) -> np.ndarray:
        """The weight, always float32 [in, out]."""
        array = self.weight.const_value.numpy()
        return array.T if self.transposed else array


def weighted_products(model: ir.Model) -> list[Product]:
    """Find the products with a weight, in order.

    Those that make an answer of the segment (a classifier) are left out: they are small, and their
    rounding would be the answer's.
    """
    return [
        Product((node.name or "").rpartition("/")[0], node)
        for node in model.graph
        if node.op_type in KINDS
        and _is_plain(node)
        and _has_weight(node)
        and not _answers(node.outputs[0])
    ]


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
    """Tell whether a Gemm is a product and a constant bias; a MatMul always is."""
    if node.op_type == "MatMul":
        return True
    factors = (node.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))
    if any(factor != 1 for factor in factors) or node.attributes.get_int("transA", 0) == 1:
        return False
    bias = node.inputs[2] if len(node.inputs) == 3 else None
    return bias is not None and bias.const_value is not None and bias.const_value.shape.rank() == 1

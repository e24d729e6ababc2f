"""Put nodes and constants into a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir


def insert_node(
    before: ir.Node,
    kind: str,
    inputs: Sequence[ir.Value],
    name: str,
    attributes: Mapping[str, Any] | None = None,
) -> ir.Value:
    """Insert a node in front of another, and return its one output, which gets the same name."""
    node = ir.node(kind, inputs, attributes, name=name)
    node.outputs[0].name = name
    before.graph.insert_before(before, node)
    return node.outputs[0]


def insert_constant(before: ir.Node, name: str, array: np.ndarray) -> ir.Value:
    """Add a constant to the graph of a node."""
    return insert_constant_tensor(before, name, ir.tensor(array, name=name))


def insert_constant_tensor(before: ir.Node, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """Add a constant of any type to the graph of a node."""
    value = ir.Value(name=name, const_value=tensor)
    value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
    before.graph.register_initializer(value)
    return value

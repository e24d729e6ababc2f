"""Leave out the biases that attention makes superfluous."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

KEY, VALUE = 1, 2


class Biased(NamedTuple):
    """`product + bias` with a constant bias [features]."""

    add: ir.Node
    product: ir.Value
    bias: ir.Value


def fold_attention_biases(model: ir.Model) -> int:
    """Drop the biases of keys and values where attention is one operator, in place.

    The bias of the keys adds the same to every score of a query, which softmax takes out again. The
    shares of a query sum up to one, so the bias of the values passes through attention as it is:
    behind the output projection it is a constant, which the bias there takes in. What is saved
    is two passes over [batch, tokens, features] a layer.

    Returns:
        How many biases were left out.
    """
    left_out = 0
    for node in [*model.graph]:
        if node.op_type != "Attention":
            continue
        key, value = (_biased(node.inputs[index]) for index in (KEY, VALUE))
        if key is not None:
            node.replace_input_with(KEY, key.product)
            left_out += 1
        if value is not None and _absorbed(model.graph, node, value):
            node.replace_input_with(VALUE, value.product)
            left_out += 1
    RemoveUnusedNodesPass()(model)
    return left_out


def _absorbed(graph: ir.Graph, attention: ir.Node, value: Biased) -> bool:
    """Add what a bias of the values becomes to that of the output projection, if there is one."""
    context = attention.outputs[0]
    readers = [use.node for use in context.uses()]
    if len(readers) != 1 or readers[0].op_type != "MatMul" or context.is_graph_output():
        return False
    projection = readers[0]
    weight = ir.convenience.get_const_tensor(projection.inputs[1])
    after = [use.node for use in projection.outputs[0].uses()]
    output = _biased(after[0].outputs[0]) if len(after) == 1 else None
    if weight is None or output is None or output.product is not projection.outputs[0]:
        return False
    constant, before = (np.asarray(x.bias.const_value.numpy()) for x in (value, output))
    matrix = weight.numpy()
    if matrix.ndim != 2 or matrix.shape[0] != constant.size:
        return False
    # Layers that share their weights share what becomes of them.
    name = f"{output.bias.name}+{value.bias.name}@{projection.inputs[1].name}"
    if name not in graph.initializers:
        # In float64: rounding here would be an error of every token.
        total = before + constant.astype(np.float64) @ matrix.astype(np.float64)
        bias = ir.Value(name=name, const_value=ir.tensor(total.astype(before.dtype), name=name))
        bias.type, bias.shape = output.bias.type, output.bias.shape
        graph.register_initializer(bias)
    index = [*output.add.inputs].index(output.bias)
    output.add.replace_input_with(index, graph.initializers[name])
    return True


def _biased(value: ir.Value | None) -> Biased | None:
    """Take `product + bias` apart; None if a value is something else."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Add":
        return None
    for bias, product in (node.inputs, [*node.inputs][::-1]):
        tensor = None if bias is None else bias.const_value
        if tensor is not None and tensor.shape.rank() == 1 and product is not None:
            maker = product.producer()
            if maker is not None and maker.op_type == "MatMul":
                return Biased(node, product, bias)
    return None

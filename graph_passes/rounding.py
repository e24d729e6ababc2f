"""The graph of a checkpoint that was quantized: arrange its rounding so that engines see it.

An engine multiplies integers where both sides of a product are dequantized right before it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass

from effbert.graph_passes.deduplicate import deduplicate_weights
from effbert.graph_passes.insert import insert_constant, insert_node
from effbert.graph_passes.int8 import ROOM
from effbert.graph_passes.products import KINDS

MATRIX = 2  # its rank


def arrange_rounding(model: ir.Model) -> int:
    """Round an activation once for all products that round it alike, in place.

    Returns:
        How many products have dequantized sides.
    """
    deduplicate_weights(model)
    CommonSubexpressionEliminationPass()(model)
    for node in list(model.graph):
        if node.op_type == "Gather" and _is_rounded(node.inputs[0]):
            _gather_levels(node)
        elif node.op_type == "MatMul" and all(map(_is_dequantized, node.inputs)):
            _join_bias(node)
    RemoveUnusedNodesPass()(model)
    return sum(
        node.op_type in KINDS and all(map(_is_dequantized, node.inputs[:2])) for node in model.graph
    )


def _join_bias(node: ir.Node) -> None:
    """Before: `Add(MatMul(x, weight), bias)` of matrices. After: a Gemm whose bias is integers.

    onnxruntime makes a Gemm of the two by itself, and then multiplies in float32.
    """
    product, readers = node.outputs[0], [use.node for use in node.outputs[0].uses()]
    if len(readers) != 1 or readers[0].op_type != "Add" or _rank(product) != MATRIX:
        return
    add = readers[0]
    bias = add.inputs[1] if add.inputs[0] is product else add.inputs[0]
    step, steps = (value.producer().inputs[1].const_value for value in node.inputs)
    if bias.const_value is None or _rank(bias) != 1 or step is None or steps is None:
        return
    scales = step.numpy() * steps.numpy()
    levels = np.rint(bias.const_value.numpy().astype(np.float64) / scales)
    if scales.ndim != 1 or np.abs(levels).max() > ROOM:
        return
    constants = [
        insert_constant(add, f"{product.name}.bias", levels.astype(np.int32)),
        insert_constant(add, f"{product.name}.bias.scale", scales),
        insert_constant(add, f"{product.name}.bias.zero", np.zeros(len(scales), np.int32)),
    ]
    rounded = insert_node(
        add, "DequantizeLinear", constants, f"{product.name}.bias.dequantized", {"axis": 0}
    )
    rounded.type, rounded.shape = bias.type, bias.shape
    joined = insert_node(add, "Gemm", [*node.inputs, rounded], f"{product.name}.joined")
    joined.type, joined.shape = add.outputs[0].type, add.outputs[0].shape
    if add.outputs[0].is_graph_output():
        outputs = add.graph.outputs
        outputs[outputs.index(add.outputs[0])] = joined
        name, add.outputs[0].name = add.outputs[0].name, f"{product.name}.apart"
        joined.name = name
    ir.convenience.replace_all_uses_with(add.outputs[0], joined)


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else value.shape.rank()


def _is_dequantized(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_rounded(value: ir.Value | None) -> bool:
    """Tell whether a value was dequantized with one step for all of it, and is no weight."""
    if value is None or not _is_dequantized(value):
        return False
    levels, step = value.producer().inputs[:2]
    return not levels.is_initializer() and step.shape is not None and step.shape.rank() == 0


def _gather_levels(node: ir.Node) -> None:
    """Before: `Gather(Dequantize(levels))`. After: `Dequantize(Gather(levels))`."""
    dequantize, taken = node.inputs[0].producer(), node.outputs[0]
    levels, *scale = dequantize.inputs
    gather = ir.node("Gather", [levels, node.inputs[1]], dict(node.attributes))
    gather.name, gather.outputs[0].name = f"{node.name}.levels", f"{taken.name}.levels"
    gather.outputs[0].type, gather.outputs[0].shape = levels.type, taken.shape
    after = ir.node("DequantizeLinear", [gather.outputs[0], *scale])
    after.name, after.outputs[0].name = f"{node.name}.dequantized", f"{taken.name}.dequantized"
    after.outputs[0].type, after.outputs[0].shape = taken.type, taken.shape
    node.graph.insert_after(node, [gather, after])
    ir.convenience.replace_all_uses_with(taken, after.outputs[0])

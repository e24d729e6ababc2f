"""The graph of a checkpoint that was quantized: arrange its rounding so that engines see it.

An engine multiplies integers where both sides of a product are dequantized right before it.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass

from effbert.graph_passes.deduplicate import deduplicate_weights
from effbert.graph_passes.insert import insert_node
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
            _as_gemm(node)
    RemoveUnusedNodesPass()(model)
    return sum(
        node.op_type in KINDS and all(map(_is_dequantized, node.inputs[:2])) for node in model.graph
    )


def _as_gemm(node: ir.Node) -> None:
    """Before: `MatMul` of two matrices. After: a Gemm, to which the bias is added as before.

    onnxruntime joins such a MatMul and an Add to a Gemm by itself, and then multiplies in float32.
    """
    if _rank(node.outputs[0]) != MATRIX:
        return
    name = f"{node.outputs[0].name}.integers"
    product = insert_node(node, "Gemm", [*node.inputs], name)
    product.type, product.shape = node.outputs[0].type, node.outputs[0].shape
    ir.convenience.replace_all_uses_with(node.outputs[0], product)


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

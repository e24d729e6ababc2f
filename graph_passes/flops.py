"""Count the multiply-adds of a graph as a polynomial of the sequence length."""

from __future__ import annotations

import math

import onnx_ir as ir

Polynomial = tuple[int, int, int]


def count_flops(model: ir.Model) -> Polynomial:
    """Count matrix products and convolutions for one row of n tokens.

    Returns:
        (c0, c1, c2): c0 + c1 * n + c2 * n * n FLOPs, a multiply-add counted as two. Extents that
        are neither fixed nor the sequence length itself (pooled sequences) count as n.
    """
    total = [0, 0, 0]
    for node in model.graph:
        depth = _depth(node)
        shape = node.outputs[0].shape if node.outputs else None
        if depth is None or shape is None:
            continue
        extents = [*shape, *depth]
        fixed = math.prod(extent for extent in extents if isinstance(extent, int))
        degree = sum(1 for e in extents if not isinstance(e, int) and str(e) != "batch")
        total[min(degree, 2)] += 2 * fixed
    return total[0], total[1], total[2]


def count_parameters(model: ir.Model) -> int:
    """Count the elements of all floating-point weights."""
    weights = [value.const_value for value in model.graph.initializers.values()]
    return sum(w.size for w in weights if w is not None and w.dtype.is_floating_point())


def _depth(node: ir.Node) -> list[int | ir.SymbolicDim] | None:
    """Extents that are summed over, or None for an operator that is not counted."""
    shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
    if shape is None:
        return None
    if node.op_type == "MatMul":
        return [shape[-1]]
    if node.op_type == "Gemm":
        transposed = node.attributes.get_int("transA", 0)
        return [shape[0 if transposed else 1]]
    if node.op_type == "Conv" and node.inputs[1] is not None and node.inputs[1].shape is not None:
        return list(node.inputs[1].shape[1:])
    return None

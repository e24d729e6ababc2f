"""Count the multiply-adds of a graph as a polynomial of the sequence length."""

from __future__ import annotations

import math

import onnx_ir as ir

from effbert.graph_passes.dimensions import LOOKED_AT

Polynomial = tuple[int, int, int]


def count_flops(model: ir.Model) -> Polynomial:
    """Count matrix products and convolutions for one row of n tokens.

    Returns:
        (c0, c1, c2): c0 + c1 * n + c2 * n * n FLOPs, a multiply-add counted as two. Extents that
        are neither fixed nor the sequence length itself (pooled sequences) count as n. What is
        computed only when tokens are dropped is left out.
    """
    total = [0, 0, 0]
    for node in model.graph:
        for extents in _products(node):
            if any(str(extent).startswith(LOOKED_AT) for extent in extents):
                continue
            fixed = math.prod(extent for extent in extents if isinstance(extent, int))
            degree = sum(1 for e in extents if not isinstance(e, int) and str(e) != "batch")
            total[min(degree, 2)] += 2 * fixed
    return total[0], total[1], total[2]


def count_parameters(model: ir.Model) -> int:
    """Count the elements of all floating-point weights."""
    weights = [value.const_value for value in model.graph.initializers.values()]
    return sum(w.size for w in weights if w is not None and w.dtype.is_floating_point())


def _products(node: ir.Node) -> list[list[int | ir.SymbolicDim]]:
    """For each matrix product in a node: the extents of its output and those summed over."""
    shapes = [None if value is None else value.shape for value in node.inputs]
    output = node.outputs[0].shape if node.outputs else None
    if output is None or not shapes or shapes[0] is None:
        return []
    if node.op_type == "MatMul":
        return [[*output, shapes[0][-1]]]
    if node.op_type == "Gemm":
        transposed = node.attributes.get_int("transA", 0)
        return [[*output, shapes[0][0 if transposed else 1]]]
    if node.op_type == "Conv" and shapes[1] is not None:
        return [[*output, *shapes[1][1:]]]
    if node.op_type == "Attention" and shapes[1] is not None:
        keys = shapes[1][1]
        return [[*shapes[0], keys], [*output, keys]]
    return []

"""Weights stored in fewer bits than they are computed with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from effbert.graph_passes.insert import insert_constant, insert_constant_tensor, insert_node
from effbert.graph_passes.int8 import quantize_weight
from effbert.graph_passes.products import Product

BLOCK = 32  # numbers that share a scale, along the axis that is summed over
MANY_ROWS = 4096  # of an embedding table: only that of words is worth it
LARGEST = {8: 127, 4: 7}
SMALL = 1 << 12  # numbers of a weight that stays as it is
HALVES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}


def store_blocks(model: ir.Model, products: Sequence[Product], bits: int) -> int:
    """Store the weights of products in blocks of 8 or 4 bits, in place.

    Before: `MatMul(x, weight)`; after: `MatMul(x, Dequantize(weight))` with a scale for every 32
    numbers of a column. Activations stay as they are. Needs opset 21, and extents that are
    multiples of 32: other products, and those of a Gemm, are left alone.

    Returns:
        How many products read blocks now.
    """
    stored = 0
    for product in products:
        weight, node = product.weight, product.node
        if node.op_type != "MatMul" or weight.shape[0] % BLOCK:
            continue
        names, known = (
            (f"{weight.name}.int{bits}", f"{weight.name}.scale"),
            model.graph.initializers,
        )
        if names[0] not in known:
            levels, scales = round_blocks(weight.const_value.numpy(), bits)
            kind = ir.DataType.INT4 if bits == 4 else ir.DataType.INT8
            insert_constant_tensor(node, names[0], ir.Tensor(levels, dtype=kind, name=names[0]))
            insert_constant(node, names[1], scales)
        value = insert_node(
            node,
            "DequantizeLinear",
            [known[name] for name in names],
            f"{node.name}.weight",
            {"axis": 0, "block_size": BLOCK},
        )
        value.type, value.shape = weight.type, weight.shape
        node.replace_input_with(1, value)
        stored += 1
    RemoveUnusedNodesPass()(model)
    return stored


def round_blocks(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Round a float32 matrix [in, out] to integers.

    Returns:
        int8 [in, out] within the bits, and float32 scales [in / 32, out].
    """
    blocks = weight.reshape(-1, BLOCK, weight.shape[1])
    scales = (np.abs(blocks).max(axis=1) / LARGEST[bits]).astype(np.float32)
    scales[scales == 0] = 1
    levels = np.clip(np.rint(blocks / scales[:, None]), -LARGEST[bits], LARGEST[bits])
    return levels.astype(np.int8).reshape(weight.shape), scales


def store_tables(model: ir.Model) -> int:
    """Store large embedding tables in int8, in place, a scale for each row.

    Before: `Gather(table, ids)`; after: `Cast(Gather(levels, ids)) * Gather(scales, ids)`.

    Returns:
        How many readers of tables were turned.
    """
    turned = 0
    for node in [*model.graph]:
        table = node.inputs[0] if node.op_type == "Gather" else None
        if table is None or table.const_value is None or not _is_table(node, table):
            continue
        names, known = (f"{table.name}.int8", f"{table.name}.scale"), model.graph.initializers
        if names[0] not in known:
            levels, scales = quantize_weight(table.const_value.numpy(), axis=1)
            insert_constant(node, names[0], levels)
            insert_constant(node, names[1], scales[:, None])
        taken = [
            insert_node(node, "Gather", [known[name], node.inputs[1]], f"{node.name}.{part}")
            for name, part in zip(names, ("levels", "scale"), strict=True)
        ]
        cast = insert_node(node, "Cast", taken[:1], f"{node.name}.cast", {"to": ir.DataType.FLOAT})
        _replace(node, insert_node(node, "Mul", [cast, taken[1]], f"{node.name}.vectors"))
        turned += 1
    RemoveUnusedNodesPass()(model)
    return turned


def store_halves(model: ir.Model, precision: str) -> int:
    """Store large float32 weights in 16 bits, in place; engines compute with what they widen to.

    Before: `MatMul(x, weight)`; after: `MatMul(x, Cast(weight))`, and embedding tables are widened
    behind the Gather.

    Args:
        model: The graph.
        precision: "fp16" or "bf16".

    Returns:
        How many weights are stored in 16 bits now.
    """
    halved = 0
    kind = HALVES[precision]
    for weight in [*model.graph.initializers.values()]:
        tensor, uses = weight.const_value, weight.uses()
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < SMALL or not uses:
            continue
        name, first = f"{weight.name}.{precision}", _first(model.graph, [use.node for use in uses])
        half = ir.Tensor(tensor.numpy().astype(kind.numpy()), dtype=kind, name=name)
        stored, wide = insert_constant_tensor(first, name, half), None
        for node, index in uses:
            if node.op_type == "Gather" and index == 0:
                taken = insert_node(
                    node, "Gather", [stored, node.inputs[1]], f"{node.name}.{precision}"
                )
                _replace(node, _widened(node, taken, f"{node.name}.wide"))
            else:
                wide = wide or _widened(first, stored, f"{weight.name}.wide")
                node.replace_input_with(index, wide)
        halved += 1
    RemoveUnusedNodesPass()(model)
    return halved


def _widened(before: ir.Node, value: ir.Value, name: str) -> ir.Value:
    wide = insert_node(before, "Cast", [value], name, {"to": ir.DataType.FLOAT})
    wide.type, wide.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
    return wide


def _is_table(node: ir.Node, table: ir.Value) -> bool:
    """Tell whether a Gather takes rows of a large float32 table."""
    tensor, axis = table.const_value, node.attributes.get_int("axis", 0)
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.shape.rank() != 2:
        return False
    return axis == 0 and tensor.shape.numpy()[0] >= MANY_ROWS


def _first(graph: ir.Graph, nodes: Sequence[ir.Node]) -> ir.Node:
    """Return the first of some nodes, in the order in which they are computed."""
    wanted = set(nodes)
    return next(node for node in graph if node in wanted)


def _replace(node: ir.Node, value: ir.Value) -> None:
    """Let everybody read a value where they read the output of a node."""
    output = node.outputs[0]
    value.type, value.shape = output.type, output.shape
    ir.convenience.replace_all_uses_with(output, value)

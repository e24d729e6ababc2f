"""Let a segment take the rows and columns that go on itself, so that carries stay on the device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from effbert.graph_passes.insert import insert_constant, insert_node

EARLIER = "earlier"  # in the names of axes of a carry as it was made
MASK = "attention_mask"
BATCH, SEQUENCE = "batch", "sequence"


def take_rows(model: ir.Model, rows: Mapping[str, str], trims: bool) -> int:
    """Gather the rows of carries first, and cut columns, in place.

    Before: carry `[batch, ...]`. After: the buffer as an earlier segment left it, `[earlier_batch,
    ...]`; then `Gather(carry, rows)`, and where columns are trimmed a Slice to as many as the mask
    has.

    Args:
        model: The graph.
        rows: Carry -> the int64 input [batch] with the indices of its rows: `rows`, or
            `rows_from_SUFFIX` for an older buffer, whose axes get the same suffix.
        trims: Whether columns that are padding in all rows are dropped on the way.

    Returns:
        How many carries are taken.
    """
    graph = model.graph
    carries = [value for value in graph.inputs if value.name in rows]
    first = next(iter(graph))
    indices: dict[str, ir.Value] = {}
    for carry in carries:
        name = rows[carry.name]
        if name not in indices:
            indices[name] = _add_input(graph, name, [BATCH])
        _take(carry, indices[name], _suffix(name), first)
    if trims:
        _cut_columns(model, carries, rows, first)
    return len(carries)


def _suffix(rows: str) -> str:
    """Return how axes are told apart whose rows are `rows_from_SUFFIX`."""
    return rows.removeprefix("rows").removeprefix("_from")


def _add_input(graph: ir.Graph, name: str, axes: list[str]) -> ir.Value:
    value = ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(axes))
    graph.inputs.append(value)
    return value


def _take(carry: ir.Value, rows: ir.Value, suffix: str, first: ir.Node) -> None:
    uses = [*carry.uses()]
    taken = insert_node(first, "Gather", [carry, rows], f"{carry.name}.rows", {"axis": 0})
    taken.type, taken.shape = carry.type, carry.shape
    for node, index in uses:
        node.replace_input_with(index, taken)
    carry.shape = ir.Shape([f"{EARLIER}_{BATCH}{suffix}", *carry.shape.dims[1:]])


def _cut_columns(
    model: ir.Model, carries: list[ir.Value], rows: Mapping[str, str], first: ir.Node
) -> None:
    graph, end = model.graph, None
    for carry in carries:
        axes = [i for i, extent in enumerate(carry.shape) if str(extent) == SEQUENCE]
        if not axes:
            continue
        if end is None:
            mask = next((value for value in graph.inputs if value.name == MASK), None)
            mask = mask or _add_input(graph, MASK, [BATCH, SEQUENCE])
            end = _extent(mask, first)
        [taken] = [use.node.outputs[0] for use in carry.uses()]
        uses = [*taken.uses()]
        cut = taken
        for axis in axes:
            bounds = [_constant(first, 0), end, _constant(first, axis)]
            cut = insert_node(first, "Slice", [cut, *bounds], f"{carry.name}.columns_{axis}")
            cut.type, cut.shape = taken.type, taken.shape
        for node, index in uses:
            node.replace_input_with(index, cut)
        suffix = _suffix(rows[carry.name])
        shape = [*carry.shape.dims]
        for axis in axes:
            shape[axis] = ir.SymbolicDim(f"{EARLIER}_{SEQUENCE}{suffix}")
        carry.shape = ir.Shape(shape)
        taken.shape = ir.Shape([BATCH, *shape[1:]])


def _extent(mask: ir.Value, first: ir.Node) -> ir.Value:
    end = insert_node(first, "Shape", [mask], "columns", {"start": 1, "end": 2})
    end.type, end.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
    return end


def _constant(first: ir.Node, number: int) -> ir.Value:
    name = f"columns.{number}"
    known = first.graph.initializers.get(name)
    return known or insert_constant(first, name, np.array([number], np.int64))

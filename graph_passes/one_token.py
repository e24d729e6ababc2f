"""Compute what is read: a head that looks at one token needs one row of the last layer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

UNARY = frozenset("Round Gelu Erf Tanh Relu Sigmoid Identity Cast Neg Sqrt Exp".split())
BROADCAST = frozenset("Add Sub Mul Div Sum Pow Where Max Min".split())
ROUNDING = frozenset("QuantizeLinear DequantizeLinear".split())
SEQUENCE = 1
# The first token twice, although it is read once: onnxruntime multiplies single rows with another
# kernel, whose rounding depends on how long the row's padded neighbours are.
TOKENS = (0, 0)


def compute_one_token(model: ir.Model) -> int:
    """Push the choice of the first token up to where all tokens are needed, in place.

    Before: a whole layer for [batch, sequence, hidden], then `Gather(x, 0, axis=1)`. After: keys
    and values for all tokens; queries, attention, feed-forward and norms for the first two.
    Rows of a matrix product do not depend on each other, so the answer stays the same.

    Returns:
        How many readers of the first token narrowed what comes before them.
    """
    readers = [node for node in model.graph if _reads_first_token(node)]
    return sum(_narrow(model.graph, reader) for reader in readers)


def _reads_first_token(node: ir.Node) -> bool:
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != SEQUENCE:
        return False
    tensor = ir.convenience.get_const_tensor(node.inputs[1])
    shape = node.inputs[0].shape
    if tensor is None or tensor.shape.rank() != 0 or shape is None or shape.rank() != 3:
        return False
    return int(tensor.numpy()) == 0


def _narrow(graph: ir.Graph, reader: ir.Node) -> bool:
    """Narrow everything that only `reader` needs, if a matrix product is among it."""
    wanted: dict[ir.Node, list[int | None]] = {reader: [SEQUENCE, None]}
    along: dict[ir.Node, int] = {}
    for node in _upwards(graph, reader):
        axis = _demanded_axis(node.outputs[0], wanted)
        axes = None if axis is None else _input_axes(node, axis)
        if axis is not None and axes is not None:
            wanted[node], along[node] = axes, axis
    if not any(node.op_type.startswith("MatMul") for node in wanted):
        return False
    taken: dict[tuple[ir.Value, int], ir.Value] = {}
    for node, axes in wanted.items():
        for position, (value, axis) in enumerate(zip(node.inputs, axes, strict=False)):
            if value is None or axis is None or value.producer() in wanted:
                continue
            if (value, axis) not in taken:
                taken[value, axis] = _first_token(graph, value, axis, node)
            node.replace_input_with(position, taken[value, axis])
    for node, axis in along.items():
        node.outputs[0].shape = _narrowed(node.outputs[0], axis)
    return True


def _upwards(graph: ir.Graph, reader: ir.Node) -> Iterator[ir.Node]:
    """Yield the nodes before `reader`, consumers before producers."""
    before = False
    for node in reversed(graph):
        if before and len(node.outputs) == 1:
            yield node
        before |= node is reader


def _demanded_axis(value: ir.Value, wanted: dict[ir.Node, list[int | None]]) -> int | None:
    """Return the axis along which every use of a value wants one row; None if one wants all."""
    axes = {wanted[use.node][use.idx] if use.node in wanted else None for use in value.uses()}
    return axes.pop() if len(axes) == 1 and not value.is_graph_output() else None


def _input_axes(node: ir.Node, axis: int) -> list[int | None] | None:
    """For one row of the output along `axis`: the axis of each input along which one row suffices.

    None stands for inputs that are needed as a whole, and for nodes of which nothing is known.
    """
    rank = _rank(node.outputs[0])
    if rank is None:
        return None
    kind = node.op_type
    if kind in UNARY:
        return [axis]
    if kind in ROUNDING and axis != _axis_of_steps(node):
        return [axis, *[None] * (len(node.inputs) - 1)]
    if kind in BROADCAST:
        return _broadcast_axes(node, axis, rank)
    if kind in ("Softmax", "LayerNormalization"):
        normalised = node.attributes.get_int("axis", -1) % rank
        return [axis, *[None] * (len(node.inputs) - 1)] if axis < normalised else None
    if kind == "Clip":
        return [axis, *[None] * (len(node.inputs) - 1)]
    if kind in ("MatMul", "MatMulInteger"):
        rows = axis == rank - 2 and _rank(node.inputs[0]) == rank
        return [axis, None] if rows else None
    if kind == "Transpose":
        return [node.attributes["perm"].as_ints()[axis]]
    if kind == "Reshape":
        return [axis, None] if _keeps(node, axis) else None
    return None


def _axis_of_steps(node: ir.Node) -> int | None:
    """Along which axis values are rounded differently; None if all are rounded alike."""
    return None if _rank(node.inputs[1]) == 0 else node.attributes.get_int("axis", 1)


def _broadcast_axes(node: ir.Node, axis: int, rank: int) -> list[int | None] | None:
    axes: list[int | None] = []
    for value in node.inputs:
        own = _rank(value)
        if value is None or own is None or value.shape is None:
            return None
        index = axis - (rank - own)
        axes.append(index if index >= 0 and value.shape[index] != 1 else None)
    return axes


def _keeps(node: ir.Node, axis: int) -> bool:
    """Tell whether a Reshape copies every axis up to and including this one."""
    target = ir.convenience.get_const_tensor(node.inputs[1])
    copies_zero = node.attributes.get_int("allowzero", 0) == 1
    if target is None or copies_zero:
        return False
    return not np.any(target.numpy()[: axis + 1])


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else value.shape.rank()


def _first_token(graph: ir.Graph, value: ir.Value, axis: int, before: ir.Node) -> ir.Value:
    tokens = graph.initializers.get("first_token")
    if tokens is None:
        tensor = ir.tensor(np.array(TOKENS, np.int64), name="first_token")
        tokens = ir.Value(name="first_token", const_value=tensor)
        graph.register_initializer(tokens)
    node = ir.node("Gather", [value, tokens], {"axis": axis})
    node.metadata_props.update(before.metadata_props)
    output = node.outputs[0]
    output.name = f"{value.name}_token_{axis}"
    output.type = value.type
    output.shape = _narrowed(value, axis)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return output


def _narrowed(value: ir.Value, axis: int) -> ir.Shape:
    assert value.shape is not None  # nothing without a shape is narrowed
    extents = [len(TOKENS) if index == axis else each for index, each in enumerate(value.shape)]
    return ir.Shape(extents)

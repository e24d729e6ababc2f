"""Extents that depend on data become inputs, which the host computes before it runs a segment.

How many tokens stay in the longest row depends on the knob `lengths` and on the masks. TensorRT
would have to compute it on the device and wait for it; the host knows both, and may round up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from effbert.graph_passes.insert import insert_constant

# Inputs of operators that are extents, by their position.
EXTENTS = {"Slice": (1, 2), "Range": (0, 1, 2), "Expand": (1,), "Reshape": (1,), "TopK": (1,)}
STEPS = frozenset(
    "Reshape Gather Mul Clip Concat Unsqueeze Squeeze Add Sub Cast Identity Max Min Where".split()
)


@dataclass(frozen=True)
class HostExtent:
    """How many tokens stay in the longest row: an int64 scalar that the host gives.

    With `l` the element of the knob, and for each row its number of tokens `total` and what the
    layer before left, `there`, in float32 but for the last step::

        stay = min(l if l > 1 else max(ceil(l * total - slack), least), there)

    The extent is the largest `stay`, or more unless `exact`, up to the tokens that this layer is
    fed: those of the extent before, of the carry, of the inputs, or `total` where there is one.

    Attributes:
        name: Of the input.
        knob: Name of the input with one value for each encoder layer.
        element: Index of this layer's value. The layers before it drop tokens in the same way.
        slack: What a share may be above a whole number.
        least: Tokens that a share leaves at least.
        total: Tokens of every row; None is the sum of its mask.
        exact: Whether it may not be more: padding in the graph would be read as tokens.
    """

    name: str
    knob: str
    element: int
    slack: float
    least: int
    total: int | None
    exact: bool = False


def take_extents(model: ir.Model) -> list[HostExtent]:
    """Turn extents that depend on data into inputs `keep_0`, `keep_1`, ..., in place.

    What asks whether any row loses a token becomes 1: then it is looked at in any case. Extents
    of other forms stay.

    Returns:
        The extents, in the order in which they are used.
    """
    graph = model.graph
    extents: list[HostExtent] = []
    for node in _maxima(graph):
        output = node.outputs[0]
        if (question := _asks_for_any(node)) is not None:
            one = insert_constant(node, f"{node.name}.one", np.array(1, np.int64))
            ir.convenience.replace_all_uses_with(question, one)
        elif (extent := _extent(node, f"keep_{len(extents)}")) is not None:
            value = ir.Value(
                name=extent.name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([])
            )
            graph.inputs.append(value)
            ir.convenience.replace_all_uses_with(output, value)
            extents.append(extent)
    RemoveUnusedNodesPass()(model)
    return extents


def data_dependent(graph: ir.Graph) -> list[ir.Node]:
    """Find the nodes behind which extents are whose number only the data says, in order."""
    pending = [
        node.inputs[index]
        for node in graph
        for index in EXTENTS.get(node.op_type, ())
        if index < len(node.inputs)
    ]
    found, seen = set(), set()
    while pending:
        value = pending.pop()
        node = None if value is None or value in seen else value.producer()
        seen.add(value)
        if node is None or node.op_type == "Shape":
            continue
        if node.op_type in STEPS:
            pending += node.inputs
        elif ir.convenience.get_const_tensor(value) is None:
            found.add(node)
    return [node for node in graph if node in found]


def _maxima(graph: ir.Graph) -> Iterator[ir.Node]:
    return (node for node in data_dependent(graph) if node.op_type == "ReduceMax")


def _asks_for_any(node: ir.Node) -> ir.Value | None:
    """Return what is 1 if rows lose tokens and else 0: `Clip(ReduceMax(there - stay), max=1)`."""
    uses = [use.node for use in node.outputs[0].uses()]
    counted = node.inputs[0].producer()
    if len(uses) != 1 or uses[0].op_type not in ("Clip", "Min"):
        return None
    if counted is None or counted.op_type != "Sub" or _number(uses[0].inputs[-1]) != 1:
        return None
    return uses[0].outputs[0]


def _extent(node: ir.Node, name: str) -> HostExtent | None:
    """Read the formula of an extent off the graph; None if it is another one."""
    stay = _made_by(node.inputs[0], "Min")
    chosen = (
        next((_made_by(_through_cast(v), "Where") for v in stay.inputs), None) if stay else None
    )
    if chosen is None:
        return None
    compared, share, count = chosen.inputs
    below = _made_by(compared, "LessOrEqual")
    element = _made_by(count, "Gather")
    above = _made_by(share, "Max", "Clip")
    rounded = _made_by(above.inputs[0], "Ceil") if above else None
    reduced = _made_by(rounded.inputs[0], "Sub") if rounded else None
    product = _made_by(reduced.inputs[0], "Mul") if reduced else None
    if not (below and element and product) or below.inputs[0] is not count:
        return None
    factors = [value for value in product.inputs if value is not count]
    numbers = [_number(v) for v in (below.inputs[1], element.inputs[1], reduced.inputs[1])]
    least = _number(above.inputs[1])
    if len(factors) != 1 or numbers[0] != 1 or None in (*numbers, least):
        return None
    knob = element.inputs[0]
    if not knob.is_graph_input():
        return None
    total = _number(factors[0])
    return HostExtent(
        name=name,
        knob=knob.name,
        element=int(numbers[1]),
        slack=float(numbers[2]),
        least=int(least),
        total=None if total is None else int(total),
        exact=total is not None,
    )


def _made_by(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in kinds else None


def _through_cast(value: ir.Value) -> ir.Value:
    cast = _made_by(value, "Cast")
    return value if cast is None else cast.inputs[0]


def _number(value: ir.Value | None) -> float | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return float(tensor.numpy().reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None

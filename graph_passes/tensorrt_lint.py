"""What TensorRT cannot build of a graph: which node, why, and what to do.

The parser stops at the first fault of many kinds, says of others only `false`, and leaves some to a
build that fails later or to plans that compute something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from effbert.graph_passes.host_extents import EXTENTS

MOST_KEPT = 3840  # the largest k of a TopK
OWN = ("", "ai.onnx")
SUBGRAPHS = ("If", "Loop", "Scan")
ROWS_INSTEAD = "take rows by indices that the host computes"
OTHER_PRECISION = "export the bundle with --precision int8, whose scales are fixed"
MISSING = {
    "NonZero": ROWS_INSTEAD,
    "Compress": ROWS_INSTEAD,
    "Unique": ROWS_INSTEAD,
    "DynamicQuantizeLinear": OTHER_PRECISION,
    "MatMulInteger": OTHER_PRECISION,
    "ConvInteger": OTHER_PRECISION,
    "QLinearMatMul": OTHER_PRECISION,
    "QLinearConv": OTHER_PRECISION,
}
TYPES = frozenset("FLOAT FLOAT16 BFLOAT16 INT8 UINT8 INT32 INT64 BOOL".split())
TURING, FP8_SINCE = "sm75", ("sm89", "sm120", "sm121")
NOT_ON_TURING = frozenset({"BFLOAT16", "INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT4E2M1"})


class Problem(NamedTuple):
    """A node that cannot be built, in words."""

    node: str
    operator: str
    reason: str
    way_out: str

    def __str__(self) -> str:
        """Write it as one sentence."""
        return f"{self.node} ({self.operator}): {self.reason}; {self.way_out}."


def find_problems(model: ir.Model, targets: Sequence[str] = ()) -> list[Problem]:
    """List what keeps TensorRT from building a prepared graph, in the order of its nodes.

    Args:
        model: The graph.
        targets: Devices to build for, such as "sm86".
    """
    found = [*_of_ports(model.graph)]
    for node, outer in _nodes(model.graph, ()):
        found += _of_node(node, outer)
        found += _of_targets(node, [target.lower() for target in targets])
    found += _of_extents(model.graph)
    return [*dict.fromkeys(found)]


def _nodes(graph: ir.Graph, outer: tuple[str, ...]) -> Iterator[tuple[ir.Node, tuple[str, ...]]]:
    """Give every node with the operators around it."""
    for node in graph:
        yield node, outer
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _nodes(attribute.as_graph(), (*outer, node.op_type))


def _problem(node: ir.Node, reason: str, way_out: str) -> Problem:
    name = node.name or (node.outputs[0].name if node.outputs else None) or "a node without a name"
    return Problem(name, node.op_type, reason, way_out)


def _of_ports(graph: ir.Graph) -> Iterator[Problem]:
    for kind, values in (("input", graph.inputs), ("output", graph.outputs)):
        for value in values:
            if value.dtype is None or value.dtype.name not in TYPES:
                name = "an unknown type" if value.dtype is None else value.dtype.name
                reason = f"an {kind} of type {name} is refused, or becomes another type in silence"
                way_out = "use float32, float16, int64, int32 or bool"
                yield Problem(str(value.name), kind, reason, way_out)


def _of_node(node: ir.Node, outer: tuple[str, ...]) -> Iterator[Problem]:
    kind = node.op_type
    if node.domain not in OWN:
        reason = f"operators of {node.domain} are not known"
        yield _problem(node, reason, "compile the bundle itself, not a graph fused for an engine")
    if kind in MISSING:
        yield _problem(node, "the operator cannot be built", MISSING[kind])
    if kind == "If" and "If" in outer:
        reason = "an If inside another If cannot be built"
        yield _problem(node, reason, "put one behind the other, or cut the graph into segments")
    if kind == "Attention":
        yield from _of_attention(node, outer)
    if kind == "TopK":
        yield from _of_top(node)
    if kind in ("QuantizeLinear", "DequantizeLinear"):
        yield from _of_levels(node)
    if kind == "Gather" and _is_int8(node.inputs[0]):
        reason = "an int8 table is only read through a DequantizeLinear"
        yield _problem(node, reason, "prepare the graph, which stores the levels as float16")
    if kind == "ScatterElements" and node.attributes.get_string("reduction", "none") != "none":
        yield _problem(node, "a scatter that reduces cannot be built", "use a MatMul instead")


def _is_int8(value: ir.Value | None) -> bool:
    tensor = None if value is None else value.const_value
    return tensor is not None and tensor.dtype == ir.DataType.INT8


def _of_attention(node: ir.Node, outer: tuple[str, ...]) -> Iterator[Problem]:
    plain = "export with --opset 22, which writes attention in simple operators"
    if len(node.outputs) > 1:
        yield _problem(node, "only an Attention with one output can be built", plain)
    if node.attributes.get_float("softcap", 0.0) != 0:
        yield _problem(node, "softcap cannot be built", plain)
    if any(each in SUBGRAPHS for each in outer):
        yield _problem(node, f"Attention inside {outer[-1]} cannot be built", plain)


def _of_top(node: ir.Node) -> Iterator[Problem]:
    count = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] else None
    if count is not None and int(np.max(count.numpy())) > MOST_KEPT:
        reason = f"k = {int(np.max(count.numpy()))} is above {MOST_KEPT}"
        yield _problem(node, reason, f"keep {MOST_KEPT} at most")
    if any(value.name in (None, "", "_") for value in node.outputs):
        yield _problem(node, "each output needs a name of its own", "name the outputs")


def _of_levels(node: ir.Node) -> Iterator[Problem]:
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    levels = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    tensor = None if zero is None else ir.convenience.get_const_tensor(zero)
    prepared = "prepare the graph, which keeps the same integers around zero"
    kind = levels.dtype if tensor is None else tensor.dtype
    if kind in (ir.DataType.UINT8, ir.DataType.INT32):
        yield _problem(node, f"{kind.name.lower()} levels cannot be built", prepared)
    elif tensor is not None and np.any(tensor.numpy().astype(np.float32) != 0):
        yield _problem(node, "a zero point that is not zero cannot be built", prepared)


def _of_targets(node: ir.Node, targets: list[str]) -> Iterator[Problem]:
    types = {value.dtype.name for value in (*node.inputs, *node.outputs) if value and value.dtype}
    if TURING in targets:
        for name in sorted(types & NOT_ON_TURING):
            yield _problem(
                node, f"SM75 does not compute {name}", "leave sm75 out, or compile it with fp16"
            )
        if node.op_type in ("MatMul", "Gemm", "Attention") and "FLOAT" in types:
            reason = "SM75 has no products in float32"
            yield _problem(node, reason, "leave sm75 out, or compile with --compute fp16")
    without = [each for each in targets if each not in FP8_SINCE]
    if without and any(name.startswith("FLOAT8") for name in types):
        reason = f"{', '.join(without).upper()} cannot run FP8, although a plan can be built"
        yield _problem(node, reason, f"leave {', '.join(without)} out")


def _of_extents(graph: ir.Graph) -> Iterator[Problem]:
    """Find extents that are computed from a float input of a fixed size."""
    for node in graph:
        for index in EXTENTS.get(node.op_type, ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            source = _float_behind(value)
            if source is not None:
                reason = f"its extent is computed from the float input {source.name}"
                way_out = "let the host compute the extent and pass it as an int64 input"
                yield _problem(node, reason, way_out)
                break


def _float_behind(value: ir.Value | None) -> ir.Value | None:
    """Return the float input that an extent is computed from, as the parser follows it."""
    pending, seen = [value], set()
    while pending:
        each = pending.pop()
        if each is None or each in seen or each.const_value is not None:
            continue
        seen.add(each)
        node = each.producer()
        if node is None:
            if each.is_graph_input() and each.dtype == ir.DataType.FLOAT and _is_fixed(each):
                return each
        elif node.op_type != "Shape":
            pending += node.inputs
    return None


def _is_fixed(value: ir.Value) -> bool:
    return value.shape is not None and all(isinstance(extent, int) for extent in value.shape)

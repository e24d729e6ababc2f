"""Cut one traced graph into segments, and find out what has to cross each cut."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

HIDDEN = "hidden"
# What a segment may compute again instead of receiving it: masks, positions, relative-position
# buckets. A weight beyond this size makes a value worth carrying instead.
RECOMPUTED_NODES = 64
RECOMPUTED_WEIGHT_BYTES = 1 << 16
HEAVY = frozenset(
    "MatMul Gemm Conv Einsum Softmax LayerNormalization Attention DFT AveragePool".split()
)


@dataclass
class Exit:
    """Where to cut: the hidden state after an exit's layer, and the exit's outputs by name."""

    hidden: ir.Value
    outputs: Mapping[str, ir.Value]


@dataclass
class CutSegment:
    """One segment: its graph, and `carries`, input names of later segments to its outputs."""

    model: ir.Model
    carries: dict[str, str] = field(default_factory=dict)


def cut(model: ir.Model, exits: Sequence[Exit]) -> list[CutSegment]:
    """Split a graph at its exits.

    A node belongs to the first exit that needs it. What a later segment needs of an earlier one is
    computed again where that is cheap and needs the graph's inputs only (attention masks), and
    carried otherwise (hidden states, running sums). Weights are shared, not copied.

    Args:
        model: The traced graph; left unchanged.
        exits: The exits in order of depth.

    Returns:
        One segment an exit. A hidden state is called `hidden`; others `carry_NAME`.
    """
    stage = _stages(exits)
    segments = [CutSegment(_empty_model(model)) for _ in exits]
    crossing = _crossing(exits, stage)
    for index, (segment, exit_) in enumerate(zip(segments, exits, strict=True)):
        outputs = dict(exit_.outputs)
        for value in crossing:
            if stage[value.producer()] == index and any(k > index for k in crossing[value]):
                name = _carry_name(value, exits)
                outputs[f"{name}_out"] = value
                segment.carries[name] = f"{name}_out"
        received = {
            value: _carry_name(value, exits) for value in crossing if index in crossing[value]
        }
        _fill(segment.model.graph, model.graph, outputs, received)
    return segments


def _stages(exits: Sequence[Exit]) -> dict[ir.Node | None, int]:
    """Map each node to the index of the first exit that needs it."""
    stage: dict[ir.Node | None, int] = {}
    for index, exit_ in enumerate(exits):
        for node in _ancestors([exit_.hidden, *exit_.outputs.values()], stage):
            stage[node] = index
    return stage


def _crossing(
    exits: Sequence[Exit], stage: Mapping[ir.Node | None, int]
) -> dict[ir.Value, set[int]]:
    """Map each carried value to the later segments that read it."""
    crossing: dict[ir.Value, set[int]] = {}
    cheap: dict[ir.Value, bool] = {}

    def visit(value: ir.Value | None, index: int) -> None:
        if value is None or value.producer() is None or stage[value.producer()] >= index:
            return
        if value not in cheap:
            cheap[value] = _is_cheap(value)
        if not cheap[value]:
            crossing.setdefault(value, set()).add(index)

    for node, index in stage.items():
        for value in node.inputs if node is not None else ():
            visit(value, index)
    for index, exit_ in enumerate(exits):
        for value in exit_.outputs.values():
            visit(value, index)
    return crossing


def _is_cheap(value: ir.Value) -> bool:
    nodes = _ancestors([value], {})
    weights = {v for node in nodes for v in node.inputs if v is not None and v.const_value}
    return (
        len(nodes) <= RECOMPUTED_NODES
        and not any(node.op_type in HEAVY for node in nodes)
        and sum(v.const_value.nbytes for v in weights if v.const_value) <= RECOMPUTED_WEIGHT_BYTES
    )


def _ancestors(
    values: Sequence[ir.Value], seen: Mapping[ir.Node | None, int]
) -> dict[ir.Node, None]:
    """Return the nodes that values depend on, as keys, in the same order in every run."""
    found: dict[ir.Node, None] = {}
    pending = [value.producer() for value in values]
    while pending:
        node = pending.pop()
        if node is None or node in seen or node in found:
            continue
        found[node] = None
        pending += [value.producer() for value in node.inputs if value is not None]
    return found


def _carry_name(value: ir.Value, exits: Sequence[Exit]) -> str:
    if any(value is exit_.hidden for exit_ in exits):
        return HIDDEN
    return "carry_" + re.sub(r"\W", "_", value.name or "")[-50:]


def _empty_model(model: ir.Model) -> ir.Model:
    opsets = dict(model.graph.opset_imports)
    graph = ir.Graph([], [], nodes=[], opset_imports=opsets, name="segment")
    return ir.Model(graph, ir_version=model.ir_version, producer_name="effbert")


def _fill(
    graph: ir.Graph,
    source: ir.Graph,
    outputs: Mapping[str, ir.Value],
    received: Mapping[ir.Value, str],
) -> None:
    """Copy into `graph` the nodes of `source` that `outputs` need beyond the `received` values."""
    copies: dict[ir.Value | None, ir.Value | None] = {None: None}
    for value, name in received.items():
        copies[value] = _copy_value(value, name)
        graph.inputs.append(copies[value])
    needed = _needed(outputs, received)
    used = {v for node in needed for v in node.inputs} | set(outputs.values())
    for value in source.inputs:
        if value in used:
            copies[value] = _copy_value(value, value.name)
            graph.inputs.append(copies[value])
    for value in source.initializers.values():
        if value in used:
            copies[value] = _copy_value(value, value.name)
            graph.register_initializer(copies[value])
    for node in source:
        if node in needed:
            copy = ir.Node(
                node.domain,
                node.op_type,
                [copies[v] for v in node.inputs],
                node.attributes.values(),
                outputs=[_copy_value(v, v.name) for v in node.outputs],
                name=node.name,
                metadata_props=dict(node.metadata_props),
            )
            copies |= dict(zip(node.outputs, copy.outputs, strict=True))
            graph.append(copy)
    for name, value in outputs.items():
        graph.outputs.append(_as_output(graph, copies[value], name))


def _needed(outputs: Mapping[str, ir.Value], received: Mapping[ir.Value, str]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    pending = [v for v in outputs.values() if v not in received]
    while pending:
        node = pending.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            pending += [v for v in node.inputs if v is not None and v not in received]
    return found


def _as_output(graph: ir.Graph, value: ir.Value | None, name: str) -> ir.Value:
    """Name `value` as an output; one that is an output or input already goes through Identity."""
    assert value is not None
    if value.producer() is not None and value not in graph.outputs:
        value.name = name
        return value
    node = ir.Node("", "Identity", [value], outputs=[_copy_value(value, name)], name=name)
    graph.append(node)
    return node.outputs[0]


def _copy_value(value: ir.Value, name: str | None) -> ir.Value:
    return ir.Value(name=name, shape=value.shape, type=value.type, const_value=value.const_value)

"""Name nodes, values and weights after the module they come from."""

from __future__ import annotations

import ast
from collections.abc import Callable

import onnx_ir as ir

SCOPES = "pkg.torch.onnx.name_scopes"
WRAPPERS = ("model.", "backbone.", "heads.")
ROLES = {
    ("MatMul", 1): "weight",
    ("Gemm", 1): "weight",
    ("Gemm", 2): "bias",
    ("Conv", 1): "weight",
    ("Conv", 2): "bias",
    ("Gather", 0): "weight",
    ("LayerNormalization", 1): "weight",
    ("LayerNormalization", 2): "bias",
    ("Add", 0): "bias",
    ("Add", 1): "bias",
}


def name_after_modules(model: ir.Model) -> None:
    """Rename everything but inputs and outputs, in place, and drop the tracer's metadata.

    Before: `node_MatMul_46`, `val_48`, `val_47`. After: `encoder.layer.0.output.dense/MatMul`
    for the node and its output, `encoder.layer.0.output.dense.weight` for the weight. Nodes
    without a module belong to the exit policy.
    """
    graph = model.graph
    unique = _namer({v.name for v in (*graph.inputs, *graph.outputs) if v.name})
    kept = {*graph.inputs, *graph.outputs}
    renamed: dict[ir.Value, str] = {}
    for node in graph:
        scope = _scope(node)
        node.name = unique(f"{scope}/{node.op_type}")
        for position, value in enumerate(node.inputs):
            if value is not None and value.is_initializer() and value not in renamed:
                renamed[value] = unique(_weight_name(scope, node, position, value))
        for index, value in enumerate(node.outputs):
            if value not in kept:
                value.name = node.name if index == 0 else unique(f"{node.name}:{index}")
        node.metadata_props.clear()
    ir.convenience.rename_values(list(renamed), list(renamed.values()))
    for value in (*graph.inputs, *graph.outputs, *(v for n in graph for v in n.outputs)):
        value.metadata_props.clear()
    graph.metadata_props.clear()


def _scope(node: ir.Node) -> str:
    scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "['policy', '']"))
    scope = f"{scopes[-2] if len(scopes) > 1 else ''}."
    for wrapper in WRAPPERS:
        scope = scope.removeprefix(wrapper)
    return scope.strip(".") or "inputs"


def _weight_name(scope: str, node: ir.Node, position: int, value: ir.Value) -> str:
    role = ROLES.get((node.op_type, position))
    if role is None or value.shape is None or len(value.shape) == 0:
        return f"{scope}/{node.op_type}.constant"
    return f"{scope}.{role}"


def _namer(taken: set[str]) -> Callable[[str], str]:
    def unique(name: str) -> str:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        return candidate

    return unique

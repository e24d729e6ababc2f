"""Put an exit policy behind a segment's outputs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes.common import (
    InlinePass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)

BATCH = "batch"


def attach_policy(
    model: ir.Model,
    signal: ir.Function,
    fires: ir.Function,
    *,
    watched: str,
    states: Sequence[ir.Value] = (),
    knobs: Sequence[ir.Value] = (),
    last: bool = False,
    replaces: str | None = None,
    answer: ir.Function | None = None,
    extras: Sequence[str] = (),
    available: Sequence[ir.Value] = (),
) -> dict[str, str]:
    """Add the outputs `signal` (float32 [batch]) and `exit` (bool [batch]) to a segment.

    Functions are bound by the names of their inputs: `logits` is the watched output, any other name
    that of a state, a knob, an extra output or an input of the bundle. `signal` yields the signal
    and then the new value of each state; `fires` takes the signal, knobs and new states; `answer`
    yields the logits that the segment gives instead of its own, from the same.

    Args:
        model: The segment, changed in place.
        signal: What is compared.
        fires: The comparison, true where a row leaves.
        watched: The segment output that the policy looks at.
        states: Carries of the policy, as graph inputs yet to be added.
        knobs: Scalar inputs of the policy, likewise.
        last: Rows leave here whatever the policy says.
        replaces: The output that the watched one replaces where the policy fires; the watched one
            is then no longer an output (DeeBERT's last highway).
        answer: What the segment answers, where that is not its own logits.
        extras: Outputs that are there for the policy, and are none afterwards.
        available: Inputs of the bundle that the policy may read, added where it does.

    Returns:
        The carries added: state name to output name; empty for the last segment.
    """
    graph = model.graph
    outputs = {value.name: value for value in graph.outputs}
    present = {value.name: value for value in graph.inputs}
    added = [value for value in (*states, *knobs, *available) if value.name not in present]
    inputs = present | {value.name: value for value in added}
    inputs |= {name: outputs[name] for name in extras} | {"logits": outputs[watched]}
    decides = replaces is not None or not last

    signal_value, *new_states = _call(model, signal, inputs)
    inputs |= {"signal": signal_value}
    inputs |= {state.name: value for state, value in zip(states, new_states, strict=True)}
    fired = _call(model, fires, inputs)[0] if decides else None
    if answer is not None:
        [own] = _call(model, answer, inputs)
        _rename_output(graph, outputs[watched], own)
    graph.inputs.extend(value for value in added if value.uses())
    for name in extras:
        graph.outputs.remove(outputs[name])
    if replaces is not None:
        _replace_output(graph, fired, outputs[watched], outputs[replaces])
    _add_output(graph, signal_value, "signal", ir.DataType.FLOAT, [BATCH])
    if last:
        fired = _all_true(graph, signal_value)
    _add_output(graph, fired, "exit", ir.DataType.BOOL, [BATCH])
    carries = {}
    for state, value in zip(states, [] if last else new_states, strict=False):
        carries[state.name] = f"{state.name}_out"
        _add_output(graph, value, carries[state.name], state.dtype, state.shape)
    InlinePass()(model)
    for function in (signal, fires, answer):
        if function is not None:
            model.opset_imports.pop(function.domain, None)
    RemoveUnusedNodesPass()(model)  # extras that this policy does not read
    _fold_identities(graph)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return carries


def _fold_identities(graph: ir.Graph) -> None:
    """Let outputs be what Identity copies into them, now that inlining cannot rename them."""
    for output in [*graph.outputs]:
        node = output.producer()
        source = node.inputs[0] if node is not None and node.op_type == "Identity" else None
        if source is None or source.producer() is None or source in graph.outputs:
            continue
        name, output.name = output.name, None
        source.name, source.type, source.shape = name, output.type, output.shape
        ir.convenience.replace_all_uses_with(output, source, replace_graph_outputs=True)
        graph.remove(node, safe=True)


def _call(model: ir.Model, function: ir.Function, values: dict[str, ir.Value]) -> list[ir.Value]:
    model.functions[function.identifier()] = function
    version = model.graph.opset_imports[""]
    function.opset_imports[""] = version  # the policies use operators unchanged from opset 15 to 23
    model.opset_imports[function.domain] = 1
    node = ir.Node(
        function.domain,
        function.name,
        [values[value.name] for value in function.inputs],
        num_outputs=len(function.outputs),
    )
    model.graph.append(node)
    return list(node.outputs)


def _add_output(
    graph: ir.Graph,
    value: ir.Value,
    name: str,
    dtype: ir.DataType,
    shape: Sequence[int | str] | ir.Shape,
) -> None:
    """Append `value` as an output called `name`.

    Identity keeps names stable through inlining and allows one value to be several outputs.
    """
    node = ir.Node("", "Identity", [value], num_outputs=1, name=f"{name}/Identity")
    graph.append(node)
    node.outputs[0].name = name
    node.outputs[0].type = ir.TensorType(dtype)
    node.outputs[0].shape = ir.Shape(shape)
    graph.outputs.append(node.outputs[0])


def _all_true(graph: ir.Graph, like: ir.Value) -> ir.Value:
    node = ir.Node("", "Equal", [like, like], num_outputs=1)
    false = ir.Node("", "Not", [node.outputs[0]], num_outputs=1)
    either = ir.Node("", "Or", [node.outputs[0], false.outputs[0]], num_outputs=1)
    graph.extend([node, false, either])
    return either.outputs[0]


def _replace_output(graph: ir.Graph, fired: ir.Value, new: ir.Value, old: ir.Value) -> None:
    axes = ir.Value(name="class_axis", const_value=ir.tensor([-1], name="class_axis"))
    graph.register_initializer(axes)
    column = ir.Node("", "Unsqueeze", [fired, axes], num_outputs=1)
    chosen = ir.Node("", "Where", [column.outputs[0], new, old], num_outputs=1)
    graph.extend([column, chosen])
    graph.outputs.remove(new)
    _rename_output(graph, old, chosen.outputs[0])


def _rename_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Let `new` be the output that `old` was, name and type included."""
    name, index = old.name, graph.outputs.index(old)
    new.type, new.shape = ir.TensorType(old.dtype), old.shape
    old.name = f"own_{name}"
    named = ir.Node("", "Identity", [new], num_outputs=1, name=f"{name}/Identity")
    graph.append(named)
    output = named.outputs[0]
    output.name, output.type, output.shape = name, new.type, new.shape
    graph.outputs[index] = output

"""Put an exit policy behind a segment's outputs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass

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
) -> dict[str, str]:
    """Add the outputs `signal` (float32 [batch]) and `exit` (bool [batch]) to a segment.

    Functions are bound by the names of their inputs: `logits` is the watched output, any other name
    that of a state or knob. `signal` yields the signal and then the new value of each state;
    `fires` takes the signal and knobs.

    Args:
        model: the segment, changed in place.
        signal: what is compared.
        fires: the comparison, true where a row leaves.
        watched: the segment output that the policy looks at.
        states: carries of the policy, as graph inputs yet to be added.
        knobs: scalar inputs of the policy, likewise.
        last: rows leave here whatever the policy says.
        replaces: the output that the watched one replaces where the policy fires; the watched one
            is then no longer an output (DeeBERT's last highway).

    Returns:
        The carries added: state name to output name; empty for the last segment.
    """
    graph = model.graph
    outputs = {value.name: value for value in graph.outputs}
    inputs = {value.name: value for value in (*states, *knobs)}
    inputs["logits"] = outputs[watched]
    decides = replaces is not None or not last

    signal_value, *new_states = _call(model, signal, inputs)
    fired = _call(model, fires, inputs | {"signal": signal_value})[0] if decides else None
    used = {v.name for v in inputs.values() if v.uses() and v is not outputs[watched]}
    graph.inputs.extend(v for v in (*states, *knobs) if v.name in used)
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
    for function in (signal, fires):
        model.opset_imports.pop(function.domain, None)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return carries


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
    name, dtype, shape = old.name, old.dtype, old.shape
    old.name = f"{name}_unless_fired"
    chosen = ir.Node("", "Where", [column.outputs[0], new, old], num_outputs=1)
    graph.extend([column, chosen])
    graph.outputs.remove(new)
    index = graph.outputs.index(old)
    chosen.outputs[0].name, chosen.outputs[0].type = name, ir.TensorType(dtype)
    chosen.outputs[0].shape = shape
    graph.outputs[index] = chosen.outputs[0]

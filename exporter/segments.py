"""From a traced model to finished segments, and from those to their manifest records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import onnx_ir as ir

from effbert.exporter.model import OVERRIDE, ExitModel
from effbert.exporter.policies.policy import Policy
from effbert.exporter.trace import trace
from effbert.graph_passes.attach import attach_policy
from effbert.graph_passes.flops import count_flops, count_parameters
from effbert.graph_passes.names import name_after_modules
from effbert.graph_passes.pipeline import segment
from effbert.runtime.errors import TraceError
from effbert.runtime.manifest import Axis, DType, Knob, Segment, State, Tensor

DTYPES: dict[DType, ir.DataType] = {
    "float32": ir.DataType.FLOAT,
    "int64": ir.DataType.INT64,
    "bool": ir.DataType.BOOL,
}


@dataclass(frozen=True)
class BuiltSegment:
    """A segment's graph and its manifest record."""

    model: ir.Model
    record: Segment


def build_segments(model: ExitModel, policy: Policy, opset: int) -> list[BuiltSegment]:
    """Trace, clean, cut, attach the policy and name everything.

    Raises:
        ExportError: torch cannot trace the model, or something that crosses a cut is not batched.
    """
    traced = trace(model, opset)
    layers = model.description.layers
    cuts = segment(traced.graph, traced.exits)
    traced.forget_weights()
    built = []
    for index, (part, layer) in enumerate(zip(cuts, layers, strict=True)):
        last = index == len(cuts) - 1
        carries = dict(part.carries) | attach(part.model, policy, last=last)
        name_after_modules(part.model)
        built.append(
            BuiltSegment(
                part.model, _record(part.model, f"segment-{index:02d}.onnx", layer, carries)
            )
        )
    return built


def attach(model: ir.Model, policy: Policy, *, last: bool) -> dict[str, str]:
    """Attach a policy to a segment; see `effbert.graph_passes.attach.attach_policy`."""
    outputs = [value.name for value in model.graph.outputs]
    overrides = OVERRIDE in outputs
    watched = OVERRIDE if overrides else "logits" if "logits" in outputs else outputs[0]
    return attach_policy(
        model,
        ir.from_proto(policy.signal.to_function_proto()),
        ir.from_proto(policy.fires.to_function_proto()),
        watched=watched,
        states=[_input(state, state.axes) for state in policy.states],
        knobs=[_input(knob, []) for knob in policy.knobs],
        last=last,
        replaces="logits" if overrides else None,
    )


def _input(record: State | Knob, axes: Sequence[int | str]) -> ir.Value:
    return ir.Value(
        name=record.name, type=ir.TensorType(DTYPES[record.dtype]), shape=ir.Shape(axes)
    )


def _record(model: ir.Model, file: str, layer: int, carries: dict[str, str]) -> Segment:
    return Segment(
        file=file,
        layer=layer,
        inputs=[_tensor(value, file) for value in model.graph.inputs],
        outputs=[_tensor(value, file) for value in model.graph.outputs],
        carries=carries,
        parameters=count_parameters(model),
        flops=count_flops(model),
    )


def _tensor(value: ir.Value, file: str) -> Tensor:
    axes = [extent if isinstance(extent, int) else str(extent) for extent in value.shape]
    names = {kind: name for name, kind in DTYPES.items()}
    batched = axes[:1] in ([], ["batch"])
    known = all(isinstance(axis, int) or axis == "sequence" for axis in axes[1:])
    if value.dtype not in names or not batched or not known:
        raise TraceError(f"{file}: {value.name} is {value.dtype} {axes}, which cannot cross a cut.")
    return Tensor(name=value.name, dtype=names[value.dtype], axes=cast("list[Axis]", axes))

"""From a traced model to finished segments, and from those to their manifest records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import onnx_ir as ir

from effbert.exporter.models.exit_model import INPUT_NAMES, OVERRIDE, WORD_MAP, ExitModel
from effbert.exporter.plan import Plan
from effbert.exporter.policies.policy import Policy
from effbert.exporter.trace import knob_input, trace
from effbert.graph_passes.attach import attach_policy
from effbert.graph_passes.attention import count_attentions
from effbert.graph_passes.cut import cut
from effbert.graph_passes.dimensions import COUNTED
from effbert.graph_passes.flops import count_flops, count_parameters
from effbert.graph_passes.module_names import name_after_modules
from effbert.graph_passes.pipeline import clean, finish
from effbert.graph_passes.share import merge_weights
from effbert.runtime.bundle.manifest import Axis, DType, Knob, Segment, State, Tensor
from effbert.runtime.errors import TraceError

DTYPES: dict[DType, ir.DataType] = {
    "float32": ir.DataType.FLOAT,
    "int64": ir.DataType.INT64,
    "bool": ir.DataType.BOOL,
}
BATCH_INPUTS = (*INPUT_NAMES, WORD_MAP)


@dataclass(frozen=True)
class BuiltSegment:
    """A segment: its graph, its manifest record, and what the passes did to it.

    `attentions` counts the attentions that it computes, fused or not.
    """

    model: ir.Model
    record: Segment
    changes: Mapping[str, int]
    attentions: int


@dataclass(frozen=True)
class BuiltModel:
    """The segments of one model, and what the passes did to its graph before it was cut."""

    segments: Sequence[BuiltSegment]
    changes: Mapping[str, int]

    @property
    def graphs(self) -> list[ir.Model]:
        """The graph of every segment."""
        return [segment.model for segment in self.segments]


def build_models(
    models: Sequence[ExitModel], plan: Plan, opset: int, say: Callable[[str], None]
) -> list[BuiltModel]:
    """Build the segments of every model; large weights that are equal are one object.

    Raises:
        TraceError: See `build_segments`.
    """
    built: list[BuiltModel] = []
    known: dict[Any, ir.TensorProtocol] = {}
    for index, model in enumerate(models):
        knobs = next(variant.knobs for variant in plan.variants if variant.model == index)
        size = "-".join(f"{name}-{value}" for name, value in knobs.items()) if index else ""
        say(f"tracing and cutting {size}".rstrip())
        built.append(build_segments(model, plan.policy, opset, f"{size}-" if size else ""))
        if len(models) > 1:
            merge_weights(built[-1].graphs, known)
    return built


def build_segments(model: ExitModel, policy: Policy, opset: int, prefix: str = "") -> BuiltModel:
    """Trace, clean, cut, attach the policy and name everything; files start with `prefix`.

    Raises:
        ExportError: Torch cannot trace the model, or something that crosses a cut is not batched.
    """
    traced = trace(model, opset)
    layers = model.description.layers
    lists = {knob.name for knob in model.description.knobs if knob.count is not None}
    changes = clean(traced.graph)
    cuts = cut(traced.graph, traced.exits)
    finished = [finish(part.model) for part in cuts]
    traced.forget_weights()
    built = []
    for index, (part, layer) in enumerate(zip(cuts, layers, strict=True)):
        last = index == len(cuts) - 1
        _own_knobs(part.model, model.description.knobs, index)
        extras = model.description.extras
        carries = dict(part.carries) | attach(part.model, policy, last=last, extras=extras)
        name_after_modules(part.model)
        file = f"{prefix}segment-{index:02d}.onnx"
        record = _record(part.model, file, layer, carries, lists)
        record = _at_length(record, model.description.padded_to)
        attentions = count_attentions(part.model)
        built.append(BuiltSegment(part.model, record, finished[index], attentions))
    return BuiltModel(built, changes)


def _at_length(record: Segment, tokens: int | None) -> Segment:
    """Count the FLOPs of rows that all have so many tokens, whatever they had before."""
    if tokens is None:
        return record
    constant, linear, quadratic = record.flops
    total = constant + linear * tokens + quadratic * tokens * tokens
    return msgspec.structs.replace(record, flops=(total, 0, 0))


def _own_knobs(model: ir.Model, knobs: Sequence[Knob], index: int) -> None:
    """Give the knobs that the traced model reads at this exit their plain names."""
    names = {knob_input(knob, index): knob.name for knob in knobs}
    for value in model.graph.inputs:
        value.name = names.get(value.name, value.name)


def attach(
    model: ir.Model, policy: Policy, *, last: bool, extras: Sequence[str] = ()
) -> dict[str, str]:
    """Attach a policy to a segment; see `effbert.graph_passes.attach.attach_policy`."""
    outputs = [value.name for value in model.graph.outputs]
    overrides = OVERRIDE in outputs and policy.answer is None
    if OVERRIDE in outputs and not overrides:
        extras = (*extras, OVERRIDE)
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
        answer=ir.from_proto(policy.answer.to_function_proto()) if policy.answer else None,
        extras=extras,
        available=[_batch_input(name) for name in BATCH_INPUTS],
    )


def _batch_input(name: str) -> ir.Value:
    return ir.Value(
        name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["batch", "sequence"])
    )


def _input(record: State | Knob, axes: Sequence[int | str]) -> ir.Value:
    return ir.Value(
        name=record.name, type=ir.TensorType(DTYPES[record.dtype]), shape=ir.Shape(axes)
    )


def _record(
    model: ir.Model, file: str, layer: int, carries: dict[str, str], lists: set[str]
) -> Segment:
    """Describe a segment; `lists` are the knobs that have a value for each layer."""
    return Segment(
        file=file,
        layer=layer,
        inputs=[_tensor(value, file, lists) for value in model.graph.inputs],
        outputs=[_tensor(value, file, lists) for value in model.graph.outputs],
        carries=carries,
        parameters=count_parameters(model),
        flops=count_flops(model),
    )


def _tensor(value: ir.Value, file: str, lists: set[str]) -> Tensor:
    axes = [extent if isinstance(extent, int) else str(extent) for extent in value.shape]
    axes = [COUNTED if str(axis).startswith(COUNTED) else axis for axis in axes]
    names = {kind: name for name, kind in DTYPES.items()}
    batched = axes[:1] in ([], ["batch"]) or value.name in lists
    known = all(isinstance(axis, int) or axis in ("sequence", COUNTED) for axis in axes[1:])
    if value.dtype not in names or not batched or not known:
        raise TraceError(f"{file}: {value.name} is {value.dtype} {axes}, which cannot cross a cut.")
    return Tensor(name=value.name, dtype=names[value.dtype], axes=cast("list[Axis]", axes))

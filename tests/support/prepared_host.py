"""A host of prepared segments on onnxruntime, and the same host of the bundle's own segments.

Both do the same between segments; the prepared ones take rows and columns themselves, from buffers
that stay as the segment before left them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

from effbert.graph_passes.prepare import Prepared, Request, prepare
from effbert.runtime import Bundle
from effbert.runtime.bundle.manifest import Segment
from effbert.runtime.bundle.names import MASK, WEIGHTS_NAME

Arrays = dict[str, np.ndarray]
Runner = Callable[[Arrays], Arrays]


def requests(bundle: Bundle, compute: str = "fp32") -> Iterator[tuple[Segment, Request]]:
    """What each segment of every variant is prepared for."""
    manifest = bundle.manifest
    for segments in (manifest.segments, *(variant.segments for variant in manifest.variants)):
        made: dict[str, Any] = {state.name: "start" for state in manifest.states}
        for index, segment in enumerate(segments):
            owners = {item.name: made[item.name] for item in segment.inputs if item.name in made}
            rows = {n: "rows" if o == index - 1 else f"rows_from_{o}" for n, o in owners.items()}
            yield (
                segment,
                Request(
                    compute=compute,
                    rows=rows,
                    trims=manifest.padding_free,
                    carries=segment.carries,
                    states={state.name for state in manifest.states},
                    knobs={knob.name for knob in manifest.knobs},
                ),
            )
            made |= dict.fromkeys(segment.carries, index)


def weights_of(bundle: Bundle) -> bytes | None:
    return bundle.read(WEIGHTS_NAME) if WEIGHTS_NAME in bundle.manifest.files else None


def prepare_bundle(bundle: Bundle, compute: str = "fp32") -> list[Prepared]:
    weights = weights_of(bundle)
    return [prepare(bundle.read(s.file), weights, r) for s, r in requests(bundle, compute)]


def on_onnxruntime(model: bytes, outputs: Sequence[str]) -> Runner:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(model, options)
    return lambda feeds: dict(zip(outputs, session.run(outputs, feeds), strict=True))


def on_reference(model: bytes, outputs: Sequence[str]) -> Runner:
    evaluator = ReferenceEvaluator(onnx.ModelProto.FromString(model))
    return lambda feeds: dict(zip(outputs, evaluator.run([*outputs], feeds), strict=True))


@dataclass
class Trace:
    """What came out: for each segment its outputs and the indices of the rows that it ran."""

    outputs: list[Arrays] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)


def run_bundle(bundle: Bundle, inputs: Arrays, knobs: Arrays, leaving: Sequence[Any]) -> Trace:
    """Run the bundle's own segments; `leaving` says for each which rows go, a bool array."""
    tensors, trace = _start(bundle, inputs), Trace()
    rows = np.arange(len(inputs[MASK]))
    weights = weights_of(bundle)
    for segment, gone in zip(bundle.manifest.segments, leaving, strict=True):
        # Weights inside, so that both are optimized alike.
        model = prepare(bundle.read(segment.file), weights, Request())
        alike = model.model if weights else bundle.read(segment.file)
        names = [item.name for item in segment.outputs]
        out = on_onnxruntime(alike, names)(
            {i.name: {**tensors, **knobs}[i.name] for i in segment.inputs}
        )
        trace.outputs.append(out)
        trace.rows.append(rows)
        tensors |= {name: out[source] for name, source in segment.carries.items()}
        keep = ~gone[rows]
        columns = _columns(bundle, tensors[MASK][keep])
        before = tensors[MASK].shape[1]
        for name, value in tensors.items():
            kept = value[keep]
            if kept.ndim > 1 and kept.shape[1] == before and columns < before:
                kept = kept[:, :columns]
            tensors[name] = np.ascontiguousarray(kept)
        rows = rows[keep]
        if not len(rows):
            break
    return trace


def run_prepared(
    bundle: Bundle,
    prepared: Sequence[Prepared],
    inputs: Arrays,
    knobs: Arrays,
    leaving: Sequence[Any],
    bucket: int = 1,
    run: Callable[[bytes, Sequence[str]], Runner] = on_onnxruntime,
) -> Trace:
    """The same with prepared segments; extents are rounded up to multiples of `bucket`."""
    tensors, trace = _start(bundle, inputs), Trace()
    rows = np.arange(len(inputs[MASK]))
    held = dict.fromkeys(tensors, rows)  # the rows of each buffer
    for segment, ready, gone in zip(bundle.manifest.segments, prepared, leaving, strict=False):
        columns = _columns(bundle, inputs[MASK][rows]) if len(trace.rows) else inputs[MASK].shape[1]
        now = {name: value[rows][:, :columns] for name, value in inputs.items()}
        feeds: Arrays = {}
        for port in ready.inputs:
            if port.role == "carry":
                feeds[port.name] = tensors[port.name]
                at = np.searchsorted(held[port.name], rows)
                feeds[port.rows] = at
            elif port.role == "knob":
                feeds[port.name] = knobs[port.name]
            elif port.role == "input":
                feeds[port.name] = now[port.name]
        width = _width(ready, feeds)
        for extent in ready.extents:
            longest = count_tokens(extent, knobs, now[MASK])
            width = longest if extent.exact else min(-(-longest // bucket) * bucket, width)
            feeds[extent.name] = np.array(width)
        out = run(ready.model, [port.name for port in ready.outputs])(feeds)
        trace.outputs.append(out)
        trace.rows.append(rows)
        for name, source in segment.carries.items():
            tensors[name], held[name] = out[source], rows
        rows = rows[~gone[rows]]
        if not len(rows):
            break
    return trace


def count_tokens(extent: Any, knobs: Mapping[str, np.ndarray], mask: np.ndarray) -> int:
    """The formula of `HostExtent`, in numpy."""
    total = mask.sum(axis=1) if extent.total is None else np.array([extent.total])
    there = total
    for value in knobs[extent.knob][: extent.element + 1]:
        share = np.ceil(value * total.astype(np.float32) - np.float32(extent.slack))
        stay = np.maximum(share, np.float32(extent.least)) if value <= 1 else value
        there = np.minimum(np.asarray(stay).astype(np.int64), there)
    return int(there.max())


def _width(ready: Prepared, feeds: Arrays) -> int:
    """How many tokens a segment is fed."""
    hidden = [p for p in ready.inputs if p.role == "carry" and len(p.axes) == 3]
    if hidden:
        return feeds[hidden[0].name].shape[1]
    total = ready.extents[0].total if ready.extents else None  # padded inside the graph
    return total or feeds["input_ids"].shape[1]


def _start(bundle: Bundle, inputs: Arrays) -> Arrays:
    rows, length = inputs[MASK].shape
    tensors = {item.name: inputs[item.name] for item in bundle.manifest.inputs}
    tensors[MASK] = inputs[MASK]
    for state in bundle.manifest.states:
        shape = [{"batch": rows, "sequence": length}.get(str(axis), axis) for axis in state.axes]
        tensors[state.name] = np.full(shape, float(state.initial)).astype(state.dtype)
    return tensors


def _columns(bundle: Bundle, mask: np.ndarray) -> int:
    if not bundle.manifest.padding_free or not len(mask):
        return mask.shape[1]
    return max(int(np.flatnonzero(mask.any(axis=0))[-1]) + 1, bundle.manifest.limits.min_length)

"""What must hold between the records of a manifest, beyond the type of each field.

Every rule yields sentences that start with the JSON path they are about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from effbert.runtime.bundle.manifest import Axis, Knob, Manifest, Tensor
from effbert.runtime.bundle.paths import name_problem
from effbert.runtime.bundle.variant_rules import find_variant_problems
from effbert.runtime.bundle.variants import split_variants

MAX_BUNDLE_BYTES = 1 << 36
_OUTPUTS = {
    "text-classification": {"logits": 2},
    "token-classification": {"logits": 3},
    "question-answering": {"start_logits": 2, "end_logits": 2},
}


def find_problems(manifest: Manifest) -> list[str]:
    """Return every contradiction in a manifest whose fields have the right types."""
    of_segments = (_files, _names, _axes, _chain, _outputs, _golden)
    rules = (*of_segments, _tokens, _knobs, _points, _parity, find_variant_problems)
    problems = [problem for rule in rules for problem in rule(manifest)]
    _, *variants = split_variants(manifest)
    problems += [
        problem.replace("$.", f"$.variants[{k}].", 1)
        for k, variant in enumerate(variants)
        for rule in of_segments
        for problem in rule(variant)
        if problem.startswith(("$.segments", "$.golden"))  # the rest was said above
    ]
    return problems


def _files(manifest: Manifest) -> Iterator[str]:
    for name in manifest.files:
        problem = name_problem(name)
        if problem:
            yield f"$.files: {name!r} {problem}"
        if name.lower() == "effbert.json":
            yield f"$.files: {name!r} is the manifest itself"
    if len({name.lower() for name in manifest.files}) < len(manifest.files):
        yield "$.files: two names differ only in upper and lower case"
    total = sum(file.size for file in manifest.files.values())
    if total > MAX_BUNDLE_BYTES:
        yield f"$.files: {total} bytes together, more than the {MAX_BUNDLE_BYTES} allowed"
    for k, segment in enumerate(manifest.segments):
        if segment.file not in manifest.files:
            yield f"$.segments[{k}].file: {segment.file!r} is not in $.files"
    if manifest.tokenizer and manifest.tokenizer.file not in manifest.files:
        yield f"$.tokenizer.file: {manifest.tokenizer.file!r} is not in $.files"


def _names(manifest: Manifest) -> Iterator[str]:
    tensors = (*manifest.inputs, *manifest.states)
    names = [tensor.name for tensor in tensors] + [knob.name for knob in manifest.knobs]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"$: {name!r} names two of the inputs, states and knobs"
    points = [point.name for point in manifest.operating_points]
    for name in sorted({name for name in points if points.count(name) > 1}):
        yield f"$.operating_points: two are named {name!r}"
    if len(set(manifest.outputs)) < len(manifest.outputs):
        yield "$.outputs: a name occurs twice"
    for k, segment in enumerate(manifest.segments):
        names = [tensor.name for tensor in (*segment.inputs, *segment.outputs)]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"$.segments[{k}]: {name!r} names two of its inputs and outputs"


def _axes(manifest: Manifest) -> Iterator[str]:
    knobs = {knob.name for knob in manifest.knobs}
    records: list[tuple[str, Sequence[Tensor]]] = [
        ("$.inputs", manifest.inputs),
        ("$.states", manifest.states),
    ]
    for k, segment in enumerate(manifest.segments):
        records.append((f"$.segments[{k}].inputs", segment.inputs))
        records.append((f"$.segments[{k}].outputs", segment.outputs))
    for path, tensors in records:
        for tensor in tensors:
            if tensor.name in knobs and path.endswith("inputs"):
                continue
            if tensor.axes.count("batch") != 1 or tensor.axes[0] != "batch":
                yield f"{path}: the first axis of {tensor.name!r}, and no other, must be 'batch'"


def _chain(manifest: Manifest) -> Iterator[str]:
    """Every input of a segment exists when the segment runs, and has the type it expects."""
    known: dict[str, Tensor] = {t.name: t for t in (*manifest.inputs, *manifest.states)}
    scalars: dict[str, tuple[str, list[Axis]]] = {
        knob.name: (knob.dtype, [] if knob.count is None else [knob.count])
        for knob in manifest.knobs
        if knob.choices is None
    }
    layer = 0
    for k, segment in enumerate(manifest.segments):
        if segment.layer < layer:
            yield f"$.segments[{k}].layer: {segment.layer} comes after {layer}"
        layer = segment.layer
        for tensor in segment.inputs:
            found = scalars.get(tensor.name) or _kind(known.get(tensor.name))
            if found is None:
                yield (
                    f"$.segments[{k}].inputs: {tensor.name!r} is no input, state or knob, and no "
                    "earlier segment carries it"
                )
            elif found != _kind(tensor):
                yield f"$.segments[{k}].inputs: {_mismatch(tensor, found)}"
        outputs = {tensor.name: tensor for tensor in segment.outputs}
        for name, source in segment.carries.items():
            if source not in outputs:
                yield f"$.segments[{k}].carries.{name}: {source!r} is no output of the segment"
            elif any(name == knob.name for knob in manifest.knobs):
                yield f"$.segments[{k}].carries.{name}: a knob cannot be carried"
            elif name in known and _kind(known[name]) != _kind(outputs[source]):
                problem = _mismatch(outputs[source], _kind(known[name]))
                yield f"$.segments[{k}].carries.{name}: {problem}"
            else:
                known[name] = outputs[source]


def _kind(tensor: Tensor | None) -> tuple[str, list[Any]] | None:
    return None if tensor is None else (tensor.dtype, list(tensor.axes))


def _mismatch(tensor: Tensor, expected: Any) -> str:
    return f"{tensor.name!r} is {tensor.dtype} {tensor.axes}, expected {expected[0]} {expected[1]}"


def _outputs(manifest: Manifest) -> Iterator[str]:
    expected = _OUTPUTS[manifest.task]
    if set(manifest.outputs) != set(expected):
        yield f"$.outputs: {manifest.task} has {sorted(expected)}"
        return
    if manifest.task == "text-classification" and manifest.problem is None:
        yield "$.problem: text-classification needs one"
    known: dict[str, Any] = {"exit": ("bool", ["batch"]), "signal": ("float32", ["batch"])}
    for k, segment in enumerate(manifest.segments):
        outputs = {tensor.name: tensor for tensor in segment.outputs}
        for name in ("exit", "signal", *manifest.outputs):
            if name not in outputs:
                yield f"$.segments[{k}].outputs: {name!r} is missing"
            elif _kind(outputs[name]) != known.setdefault(name, _kind(outputs[name])):
                yield f"$.segments[{k}].outputs: {_mismatch(outputs[name], known[name])}"
    for name, rank in expected.items():
        dtype, axes = known.get(name, ("float32", ["batch"] * rank))
        if dtype != "float32" or len(axes) != rank:
            yield f"$.segments[0].outputs: {name!r} must be float32 with {rank} axes"
        elif rank == 3 and axes[1] != "sequence":
            yield f"$.segments[0].outputs: the second axis of {name!r} must be 'sequence'"
        elif name == "logits" and manifest.labels and axes[-1] != len(manifest.labels):
            yield f"$.labels: {len(manifest.labels)} labels for {axes[-1]} logits"


def _tokens(manifest: Manifest) -> Iterator[str]:
    limits, tokenizer = manifest.limits, manifest.tokenizer
    if limits.pad_id >= limits.vocab_size:
        yield f"$.limits.pad_id: {limits.pad_id} is not below vocab_size {limits.vocab_size}"
    if limits.min_length > limits.max_length:
        yield f"$.limits.min_length: {limits.min_length} is above max_length {limits.max_length}"
    if manifest.inputs and "input_ids" not in {tensor.name for tensor in manifest.inputs}:
        yield "$.inputs: 'input_ids' is missing"
    if tokenizer is None:
        return
    if tokenizer.vocab_size > limits.vocab_size:
        yield (
            f"$.tokenizer.vocab_size: {tokenizer.vocab_size} tokens, but the model has only "
            f"{limits.vocab_size}"
        )
    if tokenizer.max_length > limits.max_length:
        yield f"$.tokenizer.max_length: {tokenizer.max_length} is above {limits.max_length}"
    for token, index in tokenizer.special_ids.items():
        if index >= limits.vocab_size:
            yield f"$.tokenizer.special_ids: {token!r} is {index}, outside the vocabulary"


def _knobs(manifest: Manifest) -> Iterator[str]:
    for k, state in enumerate(manifest.states):
        if state.dtype != "float32" and not float(state.initial).is_integer():
            yield f"$.states[{k}].initial: {state.initial} is not an integer"
    for k, knob in enumerate(manifest.knobs):
        if knob.unit == "tokens" and knob.count is None:
            yield f"$.knobs[{k}].count: lengths need one value an encoder layer"
        if knob.count is not None and knob.per_exit:
            yield f"$.knobs[{k}].count: a knob has values for exits or for layers, not for both"
        for field in ("minimum", "maximum", "never"):
            problem = _value_problem(knob, getattr(knob, field))
            if problem:
                yield f"$.knobs[{k}].{field}: {problem}"
        for problem in _values_problems(knob, knob.default, len(manifest.segments)):
            yield f"$.knobs[{k}].default: {problem}"


def _points(manifest: Manifest) -> Iterator[str]:
    knobs = {knob.name: knob for knob in manifest.knobs}
    for k, point in enumerate(manifest.operating_points):
        for name, value in point.knobs.items():
            path = f"$.operating_points[{k}].knobs.{name}"
            if name not in knobs:
                yield f"{path}: there is no such knob"
                continue
            for problem in _values_problems(knobs[name], value, len(manifest.segments)):
                yield f"{path}: {problem}"


def _values_problems(knob: Knob, value: Any, exits: int) -> Iterator[str]:
    """Tell what is wrong with one value of a knob, or with a list of one an exit."""
    if isinstance(value, list) and not knob.per_exit and knob.count is None:
        yield "the knob takes one value, not a list"
    elif isinstance(value, list) and len(value) != (knob.count or exits):
        yield f"{len(value)} values for {knob.count or exits} {'layers' if knob.count else 'exits'}"
    for item in value if isinstance(value, list) else [value]:
        problem = _value_problem(knob, item)
        if problem:
            yield problem


def _value_problem(knob: Knob, value: float | str) -> str | None:
    low, high, found = float(knob.minimum), float(knob.maximum), float(value)
    if not low <= found <= high:  # also when one of them is nan
        return f"{found} is outside {low}..{high}"
    if knob.choices is not None and found not in map(float, knob.choices):
        return f"{found} is none of the choices"
    if knob.dtype == "int64" and not (math.isfinite(found) and found.is_integer()):
        return f"{found} is not an integer"
    if knob.dtype == "float32" and math.isfinite(found) and abs(found) > 3.4028234663852886e38:
        return f"{found} is too large for float32"
    return None


def _golden(manifest: Manifest) -> Iterator[str]:
    axes = {t.name: t.axes for t in manifest.segments[0].outputs}
    for k, row in enumerate(manifest.golden):
        path, length = f"$.golden[{k}]", len(row.input_ids)
        if row.text is not None and len(row.text) not in (1, 2):
            yield f"{path}.text: expected one text or a pair"
        if row.text is not None and manifest.tokenizer is None:
            yield f"{path}.text: the bundle has no tokenizer"
        if length > manifest.limits.max_length:
            yield f"{path}.input_ids: {length} tokens, the limit is {manifest.limits.max_length}"
        if not all(0 <= token < manifest.limits.vocab_size for token in row.input_ids):
            yield f"{path}.input_ids: an id is outside the vocabulary"
        if row.token_type_ids is not None and len(row.token_type_ids) != length:
            yield f"{path}.token_type_ids: {len(row.token_type_ids)} for {length} tokens"
        if row.word_map is not None and len(row.word_map) != length:
            yield f"{path}.word_map: {len(row.word_map)} for {length} tokens"
        if set(row.outputs) != set(manifest.outputs):
            yield f"{path}.outputs: expected {sorted(manifest.outputs)}"
            continue
        for name, values in row.outputs.items():
            sizes = [length if axis == "sequence" else axis for axis in axes.get(name, [])[1:]]
            if not _has_shape(values, [len(manifest.segments), *sizes]):
                yield f"{path}.outputs.{name}: expected numbers of shape exits, {sizes}"


def _has_shape(value: Any, shape: list[Any]) -> bool:
    if not shape:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return (
        isinstance(value, list)
        and len(value) == shape[0]
        and all(_has_shape(item, shape[1:]) for item in value)
    )


def _parity(manifest: Manifest) -> Iterator[str]:
    parity = manifest.parity
    if parity and len(parity.max_abs_diff) != len(manifest.segments):
        yield (
            f"$.parity.max_abs_diff: {len(parity.max_abs_diff)} values for "
            f"{len(manifest.segments)} exits"
        )
    if parity and parity.atol is not None and not 0 < parity.atol < math.inf:
        yield f"$.parity.atol: {parity.atol} is not a positive number"

"""Inspect the graphs of a bundle, which an engine would run without a question.

Only this module of the runtime imports onnx; `effbert validate --deep` loads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto, defs

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Tensor
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.bundle.variants import split_variants
from effbert.runtime.errors import ManifestError, UnsafeContentError

MAX_NODES = 100_000
ALIGNMENT = 1 << 16
COUNTED = "tokens"
_DOMAINS = ("", "ai.onnx")
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
}
_TYPES_BY_BITS = {
    4: "INT4 UINT4 FLOAT4E2M1",
    8: "INT8 UINT8 BOOL FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ",
    16: "INT16 UINT16 FLOAT16 BFLOAT16",
    32: "INT32 UINT32 FLOAT",
    64: "INT64 UINT64 DOUBLE",
}
_BITS: dict[int, int] = {
    TensorProto.DataType.Value(name): bits
    for bits, names in _TYPES_BY_BITS.items()
    for name in names.split()
}
# Where the numbers are if not in `raw_data`; all other types use `int32_data`.
_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}


def inspect_graphs(bundle: Bundle) -> int:
    """Inspect every segment, and return the number of nodes seen.

    Raises:
        UnsafeContentError: A segment holds control flow, functions, sparse or string tensors,
            operators outside the ONNX standard, more than `MAX_NODES` nodes, a tensor whose bytes
            do not fit its shape, or external data other than an aligned range of `weights.bin`.
        ManifestError: The inputs or outputs are not those of the manifest.
    """
    weights = bundle.manifest.files.get(WEIGHTS_NAME)
    nodes = 0
    every = (one for variant in split_variants(bundle.manifest) for one in variant.segments)
    for segment in every:
        try:
            model = onnx.ModelProto.FromString(bundle.read(segment.file))
        except DecodeError:
            raise UnsafeContentError(f"{segment.file} is not an ONNX model.") from None
        for problem in _problems(model, weights.size if weights else 0):
            raise UnsafeContentError(f"{segment.file}: {problem}; do not run this bundle.")
        _compare(f"{segment.file}: the inputs", model.graph.input, segment.inputs)
        _compare(f"{segment.file}: the outputs", model.graph.output, segment.outputs)
        nodes += len(model.graph.node)
    return nodes


def _problems(model: onnx.ModelProto, weights_size: int) -> Iterator[str]:
    if len(model.graph.node) > MAX_NODES:
        yield f"{len(model.graph.node)} nodes are more than the {MAX_NODES} allowed"
    shared = [t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    for tensor in shared:
        yield from _external_problems(tensor, weights_size)
    external = 0
    for message in _walk(model):  # what is not in plain sight is found here
        if isinstance(message, onnx.NodeProto):
            yield from _node_problems(message)
        elif isinstance(message, onnx.FunctionProto):
            yield f"it defines the function {message.name!r}"
        elif isinstance(message, onnx.SparseTensorProto):
            yield f"it holds the sparse tensor {message.values.name!r}"
        elif isinstance(message, onnx.TrainingInfoProto):
            yield "it holds training information"
        elif isinstance(message, onnx.OperatorSetIdProto) and message.domain not in _DOMAINS:
            yield f"it imports the operators of {message.domain!r}"
        elif isinstance(message, onnx.TensorProto):
            external += message.data_location == TensorProto.EXTERNAL
            yield from _tensor_problems(message)
    if external != len(shared):
        yield "external data is used by something other than an initializer"


def _walk(message: Message) -> Iterator[Message]:
    """Yield a message and every message inside it, wherever that is."""
    yield message
    if isinstance(message, onnx.TensorProto):
        return  # holds no nodes, but megabytes that ListFields would copy
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if isinstance(value, Iterable) else (value,):
                yield from _walk(item)


def _node_problems(node: onnx.NodeProto) -> Iterator[str]:
    if node.domain not in _DOMAINS:
        yield f"node {node.name!r} is {node.op_type!r} of {node.domain!r}, not standard ONNX"
    elif node.op_type in _CONTROL_FLOW:
        yield f"node {node.name!r} is control flow ({node.op_type})"
    elif not defs.has(node.op_type):
        yield f"node {node.name!r} is {node.op_type!r}, which standard ONNX does not have"
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            yield f"node {node.name!r} holds a graph in {attribute.name!r}"


def _tensor_problems(tensor: onnx.TensorProto) -> Iterator[str]:
    bits = _bits(tensor)
    if bits is None:
        yield f"tensor {tensor.name!r} has a type or shape that is not allowed"
    elif tensor.data_location == TensorProto.EXTERNAL:
        if tensor.raw_data:
            yield f"tensor {tensor.name!r} is external and holds data too"
    elif tensor.external_data:
        yield f"tensor {tensor.name!r} is internal but names external data"
    elif _stored_bits(tensor) != bits:
        yield f"the data of tensor {tensor.name!r} does not fit its shape {list(tensor.dims)}"


def _external_problems(tensor: onnx.TensorProto, weights_size: int) -> Iterator[str]:
    entries = [(entry.key, entry.value) for entry in tensor.external_data]
    values = dict(entries)
    if len(values) < len(entries) or set(values) != {"location", "offset", "length"}:
        yield f"tensor {tensor.name!r} must name location, offset and length once each"
    elif values["location"] != WEIGHTS_NAME:
        yield f"tensor {tensor.name!r} is stored outside {WEIGHTS_NAME}"
    elif not (_is_count(values["offset"]) and _is_count(values["length"])):
        yield f"tensor {tensor.name!r} has an offset or length that is no number"
    else:
        offset, length = int(values["offset"]), int(values["length"])
        if offset % ALIGNMENT or offset + length > weights_size:
            yield f"tensor {tensor.name!r} is outside {WEIGHTS_NAME} or not aligned in it"
        if _bits(tensor) != 8 * length:
            yield f"the data of tensor {tensor.name!r} does not fit its shape {list(tensor.dims)}"


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16


def _bits(tensor: onnx.TensorProto) -> int | None:
    """Return the bits that type and shape ask for, or None; 4-bit tensors end at a whole byte."""
    width = _BITS.get(tensor.data_type)
    if width is None or any(size < 0 for size in tensor.dims):
        return None
    numbers: int = math.prod(tensor.dims)
    return -(-numbers * width // 8) * 8


def _stored_bits(tensor: onnx.TensorProto) -> int:
    if tensor.HasField("raw_data"):
        return 8 * len(tensor.raw_data)
    field = _FIELDS.get(tensor.data_type, "int32_data")
    # Two 4-bit numbers share an entry of int32_data.
    return max(8, _BITS[tensor.data_type]) * len(getattr(tensor, field))


def _compare(what: str, found: Iterable[onnx.ValueInfoProto], expected: list[Tensor]) -> None:
    values = {value.name: _kind(value) for value in found}
    tensors = {tensor.name: (tensor.dtype, list(tensor.axes)) for tensor in expected}
    if values != tensors:
        names = sorted(name for name in values | tensors if values.get(name) != tensors.get(name))
        raise ManifestError(f"{what} of the graph are not those of the manifest: {names}.")


def _kind(value: onnx.ValueInfoProto) -> tuple[str | None, list[str | int]]:
    kind = value.type.tensor_type
    axes = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    # Extents that a segment counts out have names of their own in its graph.
    named = [COUNTED if str(axis).startswith(f"{COUNTED}_") else axis for axis in axes]
    return _DTYPES.get(kind.elem_type), named

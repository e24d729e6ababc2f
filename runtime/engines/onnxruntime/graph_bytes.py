"""ONNX graphs as bytes: small ones are written, segments become branches of a larger graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import BinaryIO

import numpy as np

from effbert.runtime.bundle.manifest import Tensor
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.engines.onnxruntime.protobuf import Field, encode_field, read_fields

DTYPES = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7, "bool": 9}
Shape = Sequence[str | int]
SMALL = 1024  # bytes of a weight that stays in the graph
ALIGNMENT = 64
# Numbers of fields in onnx.proto3.
MODEL_IR, MODEL_GRAPH, MODEL_OPSETS, MODEL_FUNCTIONS = 1, 7, 8, 25
GRAPH_NODE, GRAPH_NAME, GRAPH_WEIGHT, GRAPH_INPUT, GRAPH_OUTPUT = 1, 2, 5, 11, 12
GRAPH_SPARSE = 15
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 3, 4, 5, 7
NODE_MEANING = (NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN)
NAME, NUMBER, GRAPH, KIND = 1, 3, 6, 20  # of attributes
KIND_NUMBER, KIND_GRAPH = 2, 5
DIMS, DATA_TYPE, TENSOR_NAME, RAW, ENTRY, LOCATION = 1, 2, 8, 9, 13, 14  # of tensors
EXTERNAL = 1
REFERENCE = b"location"  # the key that every reference to a file holds


def encode_attribute(name: str, *, number: int | None = None, graph: bytes | None = None) -> bytes:
    """Return an attribute that is an integer or a graph."""
    if graph is not None:
        return (
            encode_field(NAME, name) + encode_field(GRAPH, graph) + encode_field(KIND, KIND_GRAPH)
        )
    return (
        encode_field(NAME, name)
        + encode_field(NUMBER, number or 0)
        + encode_field(KIND, KIND_NUMBER)
    )


def encode_node(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], *attributes: bytes
) -> bytes:
    """Return a node of the standard domain."""
    parts = [encode_field(NODE_INPUT, name) for name in inputs]
    parts += [encode_field(NODE_OUTPUT, name) for name in outputs]
    parts.append(encode_field(NODE_OPERATOR, operator))
    parts += [encode_field(NODE_ATTRIBUTE, item) for item in attributes]
    return b"".join(parts)


def encode_value(name: str, dtype: str, axes: Shape | None) -> bytes:
    """Return the name and type of an input or output; without axes its shape is open."""
    tensor = encode_field(1, DTYPES[dtype])
    if axes is not None:
        extents = [encode_field(1 if isinstance(axis, int) else 2, axis) for axis in axes]
        tensor += encode_field(2, b"".join(encode_field(1, extent) for extent in extents))
    return encode_field(1, name) + encode_field(2, encode_field(1, tensor))


def encode_constant(name: str, array: np.ndarray) -> bytes:
    """Return a tensor of one of `DTYPES`."""
    parts = [encode_field(DIMS, extent) for extent in array.shape]
    parts.append(encode_field(DATA_TYPE, DTYPES[array.dtype.name]))
    return b"".join(parts) + encode_field(TENSOR_NAME, name) + encode_field(RAW, array.tobytes())


def encode_graph(
    nodes: Sequence[bytes],
    constants: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
) -> bytes:
    """Return a graph of such parts; nodes stand in the order in which they run."""
    parts = [encode_field(GRAPH_NODE, item) for item in nodes]
    parts.append(encode_field(GRAPH_NAME, "effbert"))
    parts += [encode_field(GRAPH_WEIGHT, item) for item in constants]
    parts += [encode_field(GRAPH_INPUT, item) for item in inputs]
    parts += [encode_field(GRAPH_OUTPUT, item) for item in outputs]
    return b"".join(parts)


def encode_model(graph: bytes, versions: bytes) -> bytes:
    """Return an ONNX file; `versions` are those of `Branch.versions`."""
    return versions + encode_field(MODEL_GRAPH, graph)


class Node:
    """A node of a segment.

    Attributes:
        inputs, outputs: Names of values.
        operator: With its domain in front if that is not the standard one.
        attributes: As bytes.
        what: Operator, domain and attributes, as bytes.
    """

    def __init__(self, message: memoryview, file: str, index: int) -> None:
        parts = list(read_fields(message))
        self.inputs = [_text(part) for part in parts if part.number == NODE_INPUT]
        self.outputs = [_text(part) for part in parts if part.number == NODE_OUTPUT]
        self.attributes = [bytes(_bytes(part)) for part in parts if part.number == NODE_ATTRIBUTE]
        self.what = b"".join(part.raw for part in parts if part.number in NODE_MEANING)
        name, operator, domain = (
            "".join(_text(part) for part in parts if part.number == number)
            for number in (NODE_NAME, NODE_OPERATOR, NODE_DOMAIN)
        )
        self.operator = f"{domain}.{operator}" if domain else operator
        self._name = f"{file}/{name or index}"

    def replaced(
        self, operator: str, domain: str, inputs: Sequence[str], outputs: Sequence[str]
    ) -> Node:
        """Another node, without attributes, that messages of engines call as this one."""
        node = copy(self)
        node.inputs, node.outputs = [*inputs], [*outputs]
        node.operator, node.attributes = f"{domain}.{operator}", []
        node.what = encode_field(NODE_OPERATOR, operator) + encode_field(NODE_DOMAIN, domain)
        return node

    def written(self, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        """Return the node with other inputs and outputs; messages of engines show its name."""
        ports = [encode_field(NODE_INPUT, name) for name in inputs]
        ports += [encode_field(NODE_OUTPUT, name) for name in outputs]
        return b"".join(ports) + encode_field(NODE_NAME, self._name) + self.what


class Branch:
    """The graph of an ONNX file without inputs, which it takes from around it.

    Attributes:
        versions: The fields of the file that say which ONNX it is written in.
        names: Values that come from around the branch: name inside -> name there.
        nodes: In the order in which they run.
        constants: Name -> weight or constant; those in files too.
    """

    def __init__(self, data: bytes, names: Mapping[str, str], file: str = "") -> None:
        """Take a file apart.

        Args:
            data: Its content.
            names: Its inputs, by the names that they have around it.
            file: Its name.

        Raises:
            ValueError: It is no ONNX file, holds functions or sparse tensors, or refers to files
                other than `weights.bin`.
        """
        top = list(read_fields(memoryview(data)))
        if any(field.number == MODEL_FUNCTIONS for field in top):
            raise ValueError("a segment with functions")
        self.versions = b"".join(
            field.raw for field in top if field.number in (MODEL_IR, MODEL_OPSETS)
        )
        (whole,) = (_bytes(field) for field in top if field.number == MODEL_GRAPH)
        parts = list(read_fields(whole))
        if any(part.number == GRAPH_SPARSE for part in parts):
            raise ValueError("a segment with sparse tensors")
        self.names = dict(names)
        nodes = [_bytes(part) for part in parts if part.number == GRAPH_NODE]
        self.nodes = [Node(message, file, index) for index, message in enumerate(nodes)]
        tensors = [_bytes(part) for part in parts if part.number == GRAPH_WEIGHT]
        constants = {_name(each): each for each in tensors}
        # An input may have a default among them, which nobody needs.
        self.constants: dict[str, memoryview | bytes] = {
            name: tensor for name, tensor in constants.items() if name not in names
        }
        if any(REFERENCE in each.what for each in self.nodes) or any(map(_is_foreign, tensors)):
            raise ValueError(f"weights outside of {WEIGHTS_NAME}")
        self._passed: list[bytes] = []

    def store_weights(self, file: BinaryIO, name: str) -> None:
        """Move the larger weights into a file, which the graph calls `name`."""
        for key, tensor in self.constants.items():
            self.constants[key] = bytes(_stored(tensor, file, name))

    def kind(self, name: str) -> tuple[int, list[int]]:
        """Return data type and extents of a constant; (0, []) if it is written in another way."""
        parts = list(read_fields(memoryview(self.constants.get(name, b""))))
        dtype = [part.value for part in parts if part.number == DATA_TYPE]
        extents = [part.value for part in parts if part.number == DIMS]
        if len(dtype) != 1 or not all(isinstance(each, int) for each in (*dtype, *extents)):
            return 0, []
        return dtype[0], extents  # type: ignore[return-value]  # as was just seen

    def pass_on(self, source: str) -> str:
        """Add an output that is a value from around the branch, and return its name."""
        name = f"{source}.passed.{len(self._passed)}"
        self._passed.append(encode_node("Identity", [source], [name]))
        return name

    def written(self, outputs: Sequence[tuple[str, Tensor]]) -> bytes:
        """Return the graph; what is an input too, or an output already, is passed on."""
        given: dict[str, str] = {}
        for name, tensor in outputs:
            source = self.names.get(name, name)
            given[self.pass_on(source) if source != name or name in given else name] = tensor.dtype
        nodes = [
            each.written([self.names.get(name, name) for name in each.inputs], each.outputs)
            for each in self.nodes
        ]
        read = {name for each in self.nodes for name in (*each.inputs, *each.outputs)} | {*given}
        constants = [bytes(tensor) for name, tensor in self.constants.items() if name in read]
        values = [encode_value(name, dtype, None) for name, dtype in given.items()]
        return encode_graph([*nodes, *self._passed], constants, [], values)


def renamed_constant(tensor: memoryview | bytes, name: str) -> bytes:
    """Return a constant by another name."""
    parts = [part.raw for part in read_fields(memoryview(tensor)) if part.number != TENSOR_NAME]
    return b"".join(parts) + encode_field(TENSOR_NAME, name)


def _stored(tensor: memoryview | bytes, file: BinaryIO, name: str) -> memoryview | bytes:
    parts = list(read_fields(memoryview(tensor)))
    if _is_external(parts):
        return tensor
    raw = [_bytes(field) for field in parts if field.number == RAW]
    if len(raw) != 1 or len(raw[0]) < SMALL:
        return tensor
    offset = file.tell() + -file.tell() % ALIGNMENT
    file.write(bytes(offset - file.tell()))
    file.write(raw[0])
    where = {"location": name, "offset": str(offset), "length": str(len(raw[0]))}
    return b"".join(
        [
            *(field.raw for field in parts if field.number not in (RAW, ENTRY, LOCATION)),
            *(
                encode_field(ENTRY, encode_field(1, key) + encode_field(2, text))
                for key, text in where.items()
            ),
            encode_field(LOCATION, EXTERNAL),
        ]
    )


def _is_external(parts: Sequence[Field]) -> bool:
    return any(part.number == LOCATION and part.value for part in parts)


def _is_foreign(tensor: memoryview) -> bool:
    """Tell whether the numbers of a tensor are in a file other than `weights.bin`."""
    parts = list(read_fields(tensor))
    if not _is_external(parts):
        return False
    entries = [list(read_fields(_bytes(part))) for part in parts if part.number == ENTRY]
    pairs = [{part.number: _text(part) for part in entry} for entry in entries]
    return [pair.get(2) for pair in pairs if pair.get(1) == "location"] != [WEIGHTS_NAME]


def _name(tensor: memoryview) -> str:
    return next((_text(part) for part in read_fields(tensor) if part.number == TENSOR_NAME), "")


def _bytes(field: Field) -> memoryview:
    """Return the value of a field that is no number."""
    if not isinstance(field.value, memoryview):
        raise ValueError(f"a number where field {field.number} is bytes")  # noqa: TRY004
    return field.value


def _text(field: Field) -> str:
    return bytes(_bytes(field)).decode()

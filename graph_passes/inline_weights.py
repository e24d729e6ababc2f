"""Put weights of an external file into the graph, from bytes that were checked."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from effbert.graph_passes.refusal import PrepareError


def inline_weights(model: ir.Model, location: str, data: bytes | None) -> int:
    """Turn external weights into weights of the graph, in place; no file is opened.

    Args:
        model: The graph.
        location: The one name that external weights may have.
        data: What is in that file; None if there is none.

    Returns:
        How many weights were external.

    Raises:
        PrepareError: A weight names another file, or bytes that are not there.
    """
    inlined = 0
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        if str(tensor.location) != location or data is None:
            raise PrepareError(
                f"Weight {value.name} lies in the file {str(tensor.location)[:64]!r}, which is not "
                f"read; export the bundle again: its weights are in the graphs or in {location}."
            )
        value.const_value = _tensor(value.name, tensor, data)
        inlined += 1
    return inlined


def _tensor(name: str, tensor: ir.ExternalTensor, data: bytes) -> ir.TensorProtocol:
    start, shape = tensor.offset or 0, tensor.shape.numpy()
    packed = tensor.dtype.bitwidth < 8
    kind = np.dtype(np.uint8) if packed else tensor.dtype.numpy()
    count = -(-int(np.prod(shape)) * tensor.dtype.bitwidth // (8 * kind.itemsize))
    if start < 0 or start + count * kind.itemsize > len(data):
        raise PrepareError(
            f"Weight {name} ends behind the end of its file; export the bundle again."
        )
    array = np.frombuffer(data, kind.newbyteorder("<"), count, start)
    if packed:
        return ir.PackedTensor(array, tensor.dtype, shape=ir.Shape(shape), name=name)
    return ir.Tensor(array.reshape(shape), dtype=tensor.dtype, name=name)

"""Rows and columns of a carry, taken on the device by a graph of one or two operators."""

from __future__ import annotations

import numpy as np
from onnxruntime import InferenceSession, OrtValue

from effbert.runtime.engines.onnxruntime.graph_bytes import (
    DTYPES,
    MODEL_IR,
    MODEL_OPSETS,
    encode_attribute,
    encode_constant,
    encode_graph,
    encode_model,
    encode_node,
    encode_value,
)
from effbert.runtime.engines.onnxruntime.protobuf import encode_field

IR, OPSET = 8, 17
VERSIONS = encode_field(MODEL_IR, IR) + encode_field(MODEL_OPSETS, encode_field(2, OPSET))
ROWS, COLUMNS, VALUE, TAKEN = "rows", "columns", "value", "taken"


class Take:
    """Takes rows, and maybe the first columns, of values of one dtype."""

    def __init__(self, session: InferenceSession, device: str, index: int) -> None:
        self._session = session
        self._device = (device, index)

    def __call__(self, value: OrtValue, rows: np.ndarray, columns: int | None) -> OrtValue:
        """Return a new value on the device; the old one stays as it is."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(VALUE, value)
        binding.bind_cpu_input(ROWS, rows)
        if columns is not None:
            binding.bind_cpu_input(COLUMNS, np.array([columns], np.int64))
        binding.bind_output(TAKEN, *self._device)
        self._session.run_with_iobinding(binding)
        return binding.get_outputs()[0]


def take_graph(dtype: str, axis: int | None) -> bytes:
    """Return the ONNX file of `Take`.

    Args:
        dtype: Of the values, one of `DTYPES`.
        axis: Of the columns; None leaves them alone.
    """
    assert dtype in DTYPES
    rows_of = "taken" if axis is None else "some"
    nodes = [
        encode_node("Gather", [VALUE, ROWS], [rows_of], encode_attribute("axis", number=0)),
    ]
    inputs = [encode_value(VALUE, dtype, None), encode_value(ROWS, "int64", [ROWS])]
    constants = []
    if axis is not None:
        nodes.append(encode_node("Slice", ["some", "start", COLUMNS, "axes"], [TAKEN]))
        inputs.append(encode_value(COLUMNS, "int64", [1]))
        constants = [
            encode_constant("start", np.array([0], np.int64)),
            encode_constant("axes", np.array([axis], np.int64)),
        ]
    graph = encode_graph(nodes, constants, inputs, [encode_value(TAKEN, dtype, None)])
    return encode_model(graph, VERSIONS)

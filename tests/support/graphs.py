"""Small graphs as text, and running them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime


def graph(text: str, opset: int = 20) -> ir.Model:
    """Read onnx's textual form; shapes of inner values are inferred."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def value(model: ir.Model, name: str) -> ir.Value:
    """The value called `name`."""
    values = (*model.graph.inputs, *(v for node in model.graph for v in node.outputs))
    return next(v for v in values if v.name == name)


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute all outputs with onnxruntime."""
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    names = [output.name for output in session.get_outputs()]
    wanted = {item.name: feeds[item.name] for item in session.get_inputs()}
    return dict(zip(names, session.run(names, wanted), strict=True))


def operators(model: ir.Model) -> list[str]:
    """Operator types in order."""
    return [node.op_type for node in model.graph]

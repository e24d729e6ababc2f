"""Graphs as OpenVINO computes them fastest in bfloat16 and int8; what they mean stays the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import Node, Output, opset13
from openvino.preprocess import PrePostProcessor

HIDDEN = ("hidden", "hidden_out")  # the carry of every cut, float32 in the bundle
TO_HEADS, TO_COLUMNS = [0, 2, 1, 3], [0, 2, 3, 1]
BATCHED = 3  # rank of the activations of a layer


def prepare_rounded(model: openvino.Model) -> openvino.Model:
    """Rewrite a model, in place, that is to be compiled for bfloat16.

    Inputs and outputs keep names and meaning. Hidden states cross in bfloat16, which numpy shows as
    16-bit numbers.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ScaledDotProductAttention":
            _spell_attention(node)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul":
            _keep_columns(node)
        elif node.get_type_name() == "FakeQuantize":
            _quantize_from_bfloat16(node)
    model.validate_nodes_and_infer_types()
    return _carry_bfloat16(model)


def _spell_attention(node: Node) -> None:
    """Write attention under a mask as `softmax(query @ key * scale + mask) @ value`.

    Read from ONNX, it looks at every number for NaN, to zero what rows without any token give; a
    session refuses such rows.
    """
    inputs = [node.input_value(index) for index in range(node.get_input_size())]
    if len(inputs) != 5 or node.get_attributes()["causal"]:
        return
    query, key, value, mask, scale = inputs
    if mask.get_element_type() == openvino.Type.boolean:
        return
    if mask.get_node().get_type_name() == "Broadcast":  # as the sum does, without the memory
        mask = mask.get_node().input_value(0)
    scores = opset13.multiply(opset13.matmul(query, key, False, True), scale)
    shares = opset13.softmax(opset13.add(scores, mask), -1)
    context = opset13.matmul(shares, value, False, False)
    context.set_friendly_name(node.get_friendly_name())
    for port in node.output(0).get_target_inputs():
        reader = port.get_node()
        if _selects_numbers(reader):
            reader.output(0).replace(context.output(0))
    node.output(0).replace(context.output(0))


def _selects_numbers(node: Node) -> bool:
    """Tell whether a node replaces NaN."""
    kinds = node.get_type_name(), node.input_value(0).get_node().get_type_name()
    return kinds == ("Select", "IsNaN")


def _keep_columns(product: Node) -> None:
    """Let a product read keys by row: moving single numbers into columns takes 4 x as long."""
    moved = product.input_value(1).get_node()
    if moved.get_type_name() != "Transpose" or _constant(moved.input_value(1)) != TO_COLUMNS:
        return
    if any(product.get_attributes()[which] for which in ("transpose_a", "transpose_b")):
        return
    rows = opset13.transpose(moved.input_value(0), np.array(TO_HEADS))
    fused = opset13.matmul(product.input_value(0), rows, False, True)
    fused.set_friendly_name(product.get_friendly_name())
    product.output(0).replace(fused.output(0))


def _quantize_from_bfloat16(node: Node) -> None:
    """Put an operator in front that changes nothing which the quantization would not clip anyway.

    OpenVINO quantizes as a part of the operator before, unless others read that one too or it only
    reshapes; by itself it quantizes float32, and bfloat16 is converted first. A maximum for each
    feature stays where it is put, a single number would be moved on.
    """
    source, lowest = node.input_value(0), _constant(node.input_value(1))
    if len(source.get_target_inputs()) == 1 and source.get_node().get_type_name() != "Reshape":
        return
    shape = source.get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != BATCHED or shape[2].is_dynamic or lowest is None:
        return
    bound = np.full(shape[2].get_length(), 2 * np.min(lowest) - 1, np.float32)
    node.input(0).replace_source_output(opset13.maximum(source, bound).output(0))


def _carry_bfloat16(model: openvino.Model) -> openvino.Model:
    """Half the memory to move between segments, and no layer ends in float32."""
    steps = PrePostProcessor(model)
    for ports, step in ((model.inputs, steps.input), (model.outputs, steps.output)):
        for index, port in enumerate(ports):
            if port.names.intersection(HIDDEN) and port.element_type == openvino.Type.f32:
                step(index).tensor().set_element_type(openvino.Type.bf16)
    return steps.build()


def _constant(value: Output) -> Any:
    """Return the numbers of a constant, None of anything else."""
    node = value.get_node()
    return node.data.tolist() if node.get_type_name() == "Constant" else None

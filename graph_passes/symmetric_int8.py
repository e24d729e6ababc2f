"""Activations in int8 around zero, with the same integers as in uint8.

TensorRT multiplies integers without a zero point only. `Quantize(x, step, uint8 zero)` and
`Quantize(x + step * (zero - 128), step, int8 0)` give integers that differ by 128. What the product
then lacks is the same for all rows: a constant for each column, which its bias takes up.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from effbert.graph_passes.insert import insert_constant, insert_node
from effbert.graph_passes.refusal import PrepareError

MIDDLE = 128  # the level of uint8 that becomes 0
IN_FLOAT32 = "float32"  # in `Node.meta`: to be computed in float32, whatever the others are


def make_symmetric(model: ir.Model) -> int:
    """Turn uint8 activations into int8 without zero points, in place; products stay what they are.

    Biases that are stored in int32 become float32, because TensorRT dequantizes no such integers.

    Returns:
        How many activations were turned.

    Raises:
        PrepareError: Something else than products reads what is quantized.
    """
    turned = 0
    for node in [*model.graph]:
        if node.op_type == "QuantizeLinear" and _zero(node) is not None:
            _turn(node)
            turned += 1
    for node in model.graph:
        if node.op_type == "Gemm" and len(node.inputs) == 3 and _is_stored(node.inputs[2]):
            _add_to_gemm(node, np.zeros(1))
    RemoveUnusedNodesPass()(model)
    return turned


def _zero(node: ir.Node) -> int | None:
    """Return the zero point of a QuantizeLinear to uint8."""
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = None if zero is None else zero.const_value
    return int(tensor.numpy()) if tensor is not None and tensor.dtype == ir.DataType.UINT8 else None


def _turn(node: ir.Node) -> None:
    step, value = node.inputs[1].const_value.numpy(), node.inputs[0]
    shift = np.float32(step) * np.float32(_zero(node) - MIDDLE)
    if shift:
        constant = insert_constant(node, f"{node.name}.shift", np.array(shift, np.float32))
        shifted = insert_node(node, "Add", [value, constant], f"{node.name}.shifted")
        shifted.type, shifted.shape = value.type, value.shape
        shifted.producer().meta[IN_FLOAT32] = True  # 16 bits would give other integers
        node.replace_input_with(0, shifted)
    zero = insert_constant(node, f"{node.name}.zero", np.array(0, np.int8))
    node.replace_input_with(2, zero)
    node.outputs[0].type = ir.TensorType(ir.DataType.INT8)
    for use in [*node.outputs[0].uses()]:
        if use.node.op_type != "DequantizeLinear":
            raise _unexpected(use.node, "integers")
        use.node.replace_input_with(2, zero)
        for reader, index in [*use.node.outputs[0].uses()]:
            if reader.op_type not in ("MatMul", "Gemm") or index != 0:
                raise _unexpected(reader, "a quantized activation")
            _correct(reader, shift)


def _correct(product: ir.Node, shift: np.float32) -> None:
    """Take `shift` times the sum of each column out of a product again."""
    weight = product.inputs[1].producer()
    if (
        weight is None
        or weight.op_type != "DequantizeLinear"
        or weight.inputs[0].const_value is None
    ):
        raise _unexpected(product, "a quantized activation without a quantized weight")
    levels, scales = (weight.inputs[i].const_value.numpy().astype(np.float64) for i in (0, 1))
    axis = weight.attributes.get_int("axis", 1)
    if scales.ndim == 1:
        scales = np.expand_dims(scales, 1 - axis % 2)
    summed = 1 if product.op_type == "Gemm" and product.attributes.get_int("transB", 0) == 1 else 0
    lacking = -np.float64(shift) * (levels * scales).sum(axis=summed)
    if product.op_type == "Gemm":
        _add_to_gemm(product, lacking)
    else:
        _add_to_matmul(product, lacking)


def _is_stored(bias: ir.Value | None) -> bool:
    node = None if bias is None else bias.producer()
    return node is not None and node.op_type == "DequantizeLinear"


def _add_to_gemm(node: ir.Node, lacking: np.ndarray) -> None:
    bias = node.inputs[2]
    parts = bias.producer().inputs[:2] if _is_stored(bias) else [bias]
    arrays = [part.const_value.numpy().astype(np.float64) for part in parts]
    whole = np.prod(arrays, axis=0) if len(arrays) > 1 else arrays[0]
    _set(node, 2, (whole + lacking).astype(np.float32))


def _add_to_matmul(node: ir.Node, lacking: np.ndarray) -> None:
    """Add to the constant bias behind a product, or behind it where there is none."""
    output = node.outputs[0]
    uses = [*output.uses()]
    if len(uses) == 1 and uses[0].node.op_type == "Add":
        add, index = uses[0].node, 1 - uses[0].idx
        tensor = add.inputs[index].const_value
        if tensor is not None and tensor.shape.numpy() == lacking.shape:
            bias = tensor.numpy().astype(np.float64) + lacking
            _set(add, index, bias.astype(np.float32))
            return
    uses = [*output.uses()]
    constant = insert_constant(node, f"{node.name}.lacking", lacking.astype(np.float32))
    added = ir.node("Add", [output, constant], name=f"{node.name}.corrected")
    value = added.outputs[0]
    value.name, value.type, value.shape = added.name, output.type, output.shape
    node.graph.insert_after(node, added)
    for reader, index in uses:
        reader.replace_input_with(index, value)


def _set(node: ir.Node, index: int, array: np.ndarray) -> None:
    """Give a node a constant of its own; equal nodes may share the one that it had."""
    node.replace_input_with(index, insert_constant(node, f"{node.name}.float32", array))


def _unexpected(node: ir.Node, what: str) -> PrepareError:
    return PrepareError(
        f"Node {node.name} ({node.op_type}) reads {what}, which TensorRT does not compute; export "
        "the bundle with another --precision."
    )

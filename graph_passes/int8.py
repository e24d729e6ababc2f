"""Matrix products in int8, with scales that are fixed at export.

A scale that is computed from a batch makes a row's answer depend on the rows beside it; these are
constants, so that it does not. Everything else stays in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from effbert.graph_passes.insert import insert_constant, insert_node
from effbert.graph_passes.products import Product

LEVELS = 255  # of an activation, uint8
LARGEST = 127  # of a weight, int8
ROOM = 1 << 30  # for a bias in int32; products need less than half of it


class Range(NamedTuple):
    """The smallest and the largest value that an activation keeps; those beyond are clipped."""

    lowest: float
    highest: float

    def scale(self) -> tuple[np.float32, np.uint8]:
        """Return the step between two levels and the level of zero, which is exact."""
        lowest, highest = min(self.lowest, 0.0), max(self.highest, 0.0)
        step = np.float32((highest - lowest) / LEVELS) or np.float32(1)
        return step, np.uint8(np.clip(np.rint(-lowest / step), 0, LEVELS))

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Return what int8 makes of float32 values, as float32."""
        step, zero = self.scale()
        return (np.clip(np.rint(values / step) + zero, 0, LEVELS) - np.float32(zero)) * step


def quantize_weight(weight: np.ndarray, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Round a float32 matrix to int8, with a scale for each slice along `axis`.

    Args:
        weight: float32 [in, out].
        axis: The axis that shares a scale: 0 gives a scale for each column.

    Returns:
        int8 of the same shape, and the float32 scales.
    """
    scales = column_scales(weight, axis)
    levels = np.rint(weight / np.expand_dims(scales, axis))
    return np.clip(levels, -LARGEST, LARGEST).astype(np.int8), scales


def column_scales(weight: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the float32 step between two levels of each column, or of each slice along `axis`."""
    scales = (np.abs(weight).max(axis=axis) / LARGEST).astype(np.float32)
    scales[scales == 0] = 1
    return scales


Weight = tuple[np.ndarray, np.ndarray]  # int8 [in, out], and the float32 scales of the columns


def quantize_products(
    model: ir.Model,
    products: Sequence[Product],
    ranges: Mapping[str, Range],
    weights: Mapping[str, Weight],
) -> int:
    """Let products be computed in int8, in place.

    Before: `MatMul(x, weight)`. After: `MatMul(Dequantize(Quantize(x)), Dequantize(weight))`, which
    engines compute on the integers: uint8 activations with a scale each, int8 weights with a scale
    for each column. They find the pattern where every product dequantizes its own weight, and a
    Gemm its bias, all with zero points.

    Args:
        model: The graph.
        products: Some of its products.
        ranges: By name of the activation.
        weights: By name of the weight.

    Returns:
        How many products were turned.
    """
    rounded: dict[ir.Value, ir.Value] = {}
    for product in products:
        activation, node = product.activation, product.node
        if activation not in rounded:
            rounded[activation] = _rounded(activation, ranges[str(activation.name)], node)
        levels, scales = weights[str(product.weight.name)]
        if node.op_type == "Gemm":
            step, _ = ranges[str(activation.name)].scale()
            levels, scales = _with_room(levels, scales, node.inputs[2].const_value.numpy() / step)
        node.replace_input_with(0, rounded[activation])
        node.replace_input_with(1, _dequantized_weight(product, levels, scales))
        if node.op_type == "Gemm":
            node.replace_input_with(2, _dequantized_bias(node, step * scales))
    RemoveUnusedNodesPass()(model)
    return len(products)


def _rounded(activation: ir.Value, kept: Range, before: ir.Node) -> ir.Value:
    name, (scale, zero) = activation.name, kept.scale()
    constants = [
        insert_constant(before, f"{name}.scale", np.array(scale)),
        insert_constant(before, f"{name}.zero", np.array(zero)),
    ]
    levels = insert_node(before, "QuantizeLinear", [activation, *constants], f"{name}.quantized")
    levels.type, levels.shape = ir.TensorType(ir.DataType.UINT8), activation.shape
    value = insert_node(before, "DequantizeLinear", [levels, *constants], f"{name}.dequantized")
    value.type, value.shape = activation.type, activation.shape
    return value


def _dequantized_weight(product: Product, levels: np.ndarray, scales: np.ndarray) -> ir.Value:
    weight, node = product.weight, product.node
    names = [f"{weight.name}.{part}" for part in ("quantized", "scale", "zero")]
    known = node.graph.initializers
    if names[0] not in known:
        insert_constant(
            node, names[0], np.ascontiguousarray(levels.T) if product.transposed else levels
        )
        insert_constant(node, names[1], scales)
        insert_constant(node, names[2], np.zeros(len(scales), np.int8))
    inputs = [known[name] for name in names]
    columns = {"axis": 0 if product.transposed else 1}
    value = insert_node(node, "DequantizeLinear", inputs, f"{node.name}.weight", columns)
    value.type, value.shape = weight.type, weight.shape
    return value


def _with_room(
    levels: np.ndarray, scales: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coarser columns where the bias, over the step of the activation, would leave int32.

    Columns of zeros take the step that suits the bias. The others are far below the bias.
    """
    least = (np.abs(bias) / ROOM).astype(np.float32)
    used = levels.any(axis=0)
    wider = np.where(used | (least == 0), np.maximum(scales, least), least)
    return np.rint(levels * (scales / wider)).astype(np.int8), wider


def _dequantized_bias(node: ir.Node, steps: np.ndarray) -> ir.Value:
    """Return the bias in steps of the product, so that engines can add it to the integers."""
    bias = node.inputs[2]
    levels = np.rint(bias.const_value.numpy().astype(np.float64) / steps)
    inputs = [
        insert_constant(node, f"{node.name}.bias", levels.astype(np.int32)),
        insert_constant(node, f"{node.name}.bias.scale", steps),
        insert_constant(node, f"{node.name}.bias.zero", np.zeros(len(steps), np.int32)),
    ]
    value = insert_node(
        node, "DequantizeLinear", inputs, f"{node.name}.bias.dequantized", {"axis": 0}
    )
    value.type, value.shape = bias.type, bias.shape
    return value

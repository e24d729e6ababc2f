"""Spare torch's exporter the decompositions that change nothing.

Before it translates a program to ONNX, torch traces it a second time, to decompose the operators
that it has no translation for; this takes longer than the first trace. The translations below are
those that encoders of this project would be decomposed for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset18 as op  # the oldest that an export may have
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import ExportedProgram
from torch.fx import Node
from torch.onnx._internal.fx.passes.type_promotion import (
    _TypePromotionInterpreter,
    get_type_promotion_rule,
)

from effbert.exporter.encoders.rounding_operators import BYTE

aten = torch.ops.aten


def _stable_sort(
    values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Any:
    """Sort as TopK of everything, which keeps the order of equal values."""
    del stable
    size = op.Shape(values, start=dim, end=dim + 1)
    return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)


def _cast(values: Any, dtype: int = -1, *_: Any, **__: Any) -> Any:
    return op.Identity(values) if dtype in (-1, values.dtype) else op.Cast(values, to=dtype)


def _cast_there(values: Any, device: object, dtype: int, *_: Any, **__: Any) -> Any:
    del device
    return _cast(values, dtype)


def _subtract_from(values: Any, other: Any, alpha: float = 1.0) -> Any:
    subtrahend = values if alpha == 1 else op.Mul(values, op.CastLike(alpha, values))
    return op.Sub(op.CastLike(other, values), subtrahend)


def _and(values: Any, other: Any) -> Any:
    both_bool = values.dtype == other.dtype == ir.DataType.BOOL
    return op.And(values, other) if both_bool else op.BitwiseAnd(values, other)


def _or(values: Any, other: Any) -> Any:
    both_bool = values.dtype == other.dtype == ir.DataType.BOOL
    return op.Or(values, other) if both_bool else op.BitwiseOr(values, other)


def _item(values: Any) -> Any:
    return op.Squeeze(values)


def _argsort(values: Any, dim: int = -1, descending: bool = False) -> Any:
    return _stable_sort(values, True, dim, descending)[1]


def _round_to_levels(values: Any, step: float, zero: int, least: int, most: int) -> Any:
    if (least, most) != BYTE:
        ends = ((each - zero) * step for each in (least, most))
        values = op.Clip(values, *(op.Constant(value_float=end) for end in ends))
    scale = op.Constant(value=ir.tensor(np.array(step, np.float32)))
    zero_point = op.Constant(value=ir.tensor(np.array(zero, np.uint8)))
    levels = op.QuantizeLinear(values, scale, zero_point)
    levels.type, levels.shape = ir.TensorType(ir.DataType.UINT8), values.shape
    return op.DequantizeLinear(levels, scale, zero_point)


def _dequantize(levels: Any, steps: Any) -> Any:
    zeros = op.Constant(value=ir.tensor(np.zeros(steps.shape[0], np.int8)))
    return op.DequantizeLinear(levels, steps, zeros, axis=1)


def _rounded_product(values: Any, step: Any, zero: Any, weight: Any) -> Any:
    levels = op.QuantizeLinear(values, step, op.Cast(zero, to=ir.DataType.UINT8), axis=0)
    levels.type, levels.shape = ir.TensorType(ir.DataType.UINT8), values.shape
    product = op.MatMulInteger(levels, weight)
    product.type = ir.TensorType(ir.DataType.INT32)
    product.shape = ir.Shape([*values.shape[:-1], weight.shape[1]])
    return op.Cast(product, to=ir.DataType.FLOAT)


TRANSLATIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    aten.sort.stable: _stable_sort,
    aten.to.dtype: _cast,
    aten.to.device: _cast_there,
    aten.to.dtype_layout: _cast,
    aten.rsub.Scalar: _subtract_from,
    aten.__and__.Tensor: _and,
    aten.__or__.Tensor: _or,
    aten.min.other: op.Min,
    aten.item.default: _item,
    aten.argsort.default: _argsort,
    torch.ops.effbert.round_to_levels.default: _round_to_levels,
    torch.ops.effbert.dequantize.default: _dequantize,
    torch.ops.effbert.rounded_product.default: _rounded_product,
}


@contextmanager
def only_needed_decompositions() -> Iterator[None]:
    """Let a program as it is where none of its operators would be decomposed.

    After that torch looks for operands whose types must be made alike. It runs the whole program
    for that, although the trace has noted every value, and notes those that change.
    """
    decompose, promote = ExportedProgram.run_decompositions, _TypePromotionInterpreter.run_node

    def run(program: ExportedProgram, table: Any = None) -> ExportedProgram:
        return program if table and _is_final(program, table) else decompose(program, table)

    def run_node(self: _TypePromotionInterpreter, node: Node) -> Any:
        if node.op != "call_function" or "val" not in node.meta:
            return promote(self, node)
        with self._set_current_node(node):
            if rule := get_type_promotion_rule(node, self.type_promotion_table):
                self._maybe_promote_node(node, rule)
        return node.meta["val"]

    with (
        patch.object(ExportedProgram, "run_decompositions", run),
        patch.object(_TypePromotionInterpreter, "run_node", run_node),
    ):
        yield


def _is_final(program: ExportedProgram, table: Mapping[OpOverload, object]) -> bool:
    """Tell whether no operator has a decomposition, a graph of its own, or writes to its inputs."""
    targets = {node.target for node in program.graph.nodes} - ASSERTIONS
    if any(isinstance(target, HigherOrderOperator) for target in targets):
        return False
    operators = [target for target in targets if isinstance(target, OpOverload)]
    return not any(each in table or each._schema.is_mutable for each in operators)


# Torch drops them before it translates.
ASSERTIONS = {
    aten._assert_scalar.default,
    aten._assert_tensor_metadata.default,
    aten.sym_constrain_range_for_size.default,
}

"""Compute in 16 bits what is large, and in float32 what decides.

In 16 bits: products, attention, additions, Gelu and what lies between them, and hidden states that
cross to the next segment. In float32: LayerNormalization, the policy and its states, and answers.
Types in a graph are strict, so a Cast stands wherever one meets the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from effbert.graph_passes.insert import insert_constant_tensor, insert_node
from effbert.graph_passes.refusal import PrepareError
from effbert.graph_passes.stored import HALVES
from effbert.graph_passes.symmetric_int8 import IN_FLOAT32

FLOAT = ir.DataType.FLOAT
PRODUCTS = frozenset({"MatMul", "Gemm", "Attention"})
NARROW = PRODUCTS | frozenset(
    "Add Clip Concat Div Erf Expand Gather GatherElements GatherND Gelu Identity Mul Neg Relu "
    "Reshape Slice Softmax Split Squeeze Sub Sum Tanh Transpose Unsqueeze Where".split()
)
LINKS = frozenset({"QuantizeLinear", "DequantizeLinear"})  # what they read is part of a product
# A mask of -3.4e38 would be -inf in 16 bits, and 0 * -inf is not a number: no row would ever leave.
LARGEST = {"fp16": 3e4, "bf16": 1e38}
SMALLEST = {"fp16": 6.2e-5, "bf16": 1.2e-38}  # smaller numbers lose digits
SCALES_SINCE = 19  # the opset whose DequantizeLinear gives 16 bits


def compute_in_16_bits(model: ir.Model, compute: str, narrow_carries: Collection[str]) -> int:
    """Compute the large part of a segment in 16 bits, in place.

    Args:
        model: The graph.
        compute: "fp16" or "bf16". In bf16, whose numbers have two digits, products that lead to
            no other product (of the answers, and votes over tokens) stay in float32.
        narrow_carries: Inputs and outputs that cross in 16 bits, if they are float32 vectors.

    Returns:
        How many nodes compute in 16 bits now.

    Raises:
        PrepareError: The type of a value cannot be told.
    """
    _require_types(model)
    return _Narrowing(model, compute, narrow_carries).apply()


def _require_types(model: ir.Model) -> None:
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
    for node in model.graph:
        for value in node.outputs:
            if value.dtype is None:
                raise PrepareError(
                    f"Node {node.name} ({node.op_type}) gives values of a type that onnx cannot "
                    "tell; compile with --compute fp32."
                )


class _Narrowing:
    def __init__(self, model: ir.Model, compute: str, carries: Collection[str]) -> None:
        self.model, self.graph = model, model.graph
        self.compute, self.kind = compute, HALVES[compute]
        self.inputs = {v for v in self.graph.inputs if v.name in carries and _is_hidden(v)}
        self.outputs = {v for v in self.graph.outputs if v.name in carries and _is_hidden(v)}
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.feeding = self._leading_to_products()
        self.narrow = {node for node in self.feeding if self._may_be_narrow(node)}

    def apply(self) -> int:
        for value in self.inputs:
            value.type = ir.TensorType(self.kind)
        for node in self.narrow:
            for value in node.outputs:
                value.type = ir.TensorType(self.kind)
        self._narrow_scales()
        self._narrow_tables()
        for node in [*self.graph]:
            if node.op_type == "Cast" or node.op_type in LINKS:
                self._feed_link(node)
                continue
            wanted = self.kind if node in self.narrow else FLOAT
            for index, value in enumerate(node.inputs):
                if value is not None and value.dtype in (FLOAT, *HALVES.values()):
                    node.replace_input_with(index, self._as(value, wanted, node))
        self._type_outputs()
        RemoveUnusedNodesPass()(self.model)
        return len(self.narrow)

    def _leading_to_products(self) -> set[ir.Node]:
        """Find the products to narrow, and all nodes whose floats lead to them or to a carry."""
        carried = {value.producer() for value in self.outputs} - {None}
        products = {n for n in self.graph if n.op_type in PRODUCTS and n.outputs[0].dtype == FLOAT}
        if self.compute == "bf16":
            before = _before([*products, *carried])
            products = {node for node in products if node in before or node in carried}
        ends = [*products, *carried]
        return {*ends, *_before(ends), *(use.node for v in self.inputs for use in v.uses())}

    def _may_be_narrow(self, node: ir.Node) -> bool:
        if node.op_type not in NARROW or node.meta.get(IN_FLOAT32):
            return False
        return all(value.dtype == FLOAT for value in node.outputs)

    def _narrow_scales(self) -> None:
        """Let weights and activations of products be dequantized to 16 bits."""
        if self.model.opset_imports.get("", 0) < SCALES_SINCE:
            return
        for node in [*self.graph]:
            if node.op_type != "DequantizeLinear" or node.outputs[0].dtype != FLOAT:
                continue
            scale = node.inputs[1]
            if any(use.node not in self.narrow for use in node.outputs[0].uses()):
                continue
            if scale.const_value is None or self._loses_digits(scale.const_value.numpy()):
                continue
            node.replace_input_with(1, self._constant(scale, node))
            node.outputs[0].type = ir.TensorType(self.kind)

    def _loses_digits(self, scales: np.ndarray) -> bool:
        return bool((np.abs(scales) < SMALLEST[self.compute]).any())

    def _feed_link(self, node: ir.Node) -> None:
        """Give a QuantizeLinear float32, so that its integers stay the same; a Cast takes any."""
        if node.op_type == "QuantizeLinear":
            node.replace_input_with(0, self._as(node.inputs[0], FLOAT, node))

    def _narrow_tables(self) -> None:
        """Let tables that are stored in other 16 bits be of these: not every device has both."""
        for node in self.graph:
            table = node.inputs[0] if node.op_type == "Gather" else None
            tensor = None if table is None else table.const_value
            if tensor is not None and tensor.dtype in HALVES.values() and self.compute == "fp16":
                node.replace_input_with(0, self._constant(table, node))
                node.outputs[0].type = ir.TensorType(self.kind)

    def _as(self, value: ir.Value, wanted: ir.DataType, before: ir.Node) -> ir.Value:
        """Return a value in the type wanted, in front of a node."""
        tensor = _constant_of(value)
        if tensor is not None:
            if wanted == self.kind:
                return self._constant(value, before)
            return self._clamped(value, before) if before in self.feeding else value
        if value.dtype == wanted:
            return value
        node = value.producer()
        if node is not None and node.op_type == "Cast" and node.inputs[0].dtype == wanted:
            return node.inputs[0]  # widened before, without a loss
        key = (value, wanted)
        if key not in self.casts:
            name = f"{value.name}.to_{wanted.name.lower()}"
            cast = insert_node(before, "Cast", [value], name, {"to": wanted})
            cast.type, cast.shape = ir.TensorType(wanted), value.shape
            self.casts[key] = cast
        return self.casts[key]

    def _constant(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """Return a constant in 16 bits, clamped."""
        name = f"{value.name}.to_{self.compute}"
        known = self.graph.initializers.get(name)
        if known is not None:
            return known
        tensor = _constant_of(value)
        if tensor.dtype == self.kind:
            return value if value.const_value is not None else value.producer().inputs[0]
        array = self._clamp(tensor.numpy().astype(np.float32)).astype(self.kind.numpy())
        return insert_constant_tensor(before, name, ir.Tensor(array, dtype=self.kind, name=name))

    def _clamped(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """Return a float32 constant that leads to 16 bits, clamped where it must be."""
        tensor = value.const_value
        if tensor is None or tensor.dtype != FLOAT or tensor.size > 1:
            return value
        array = tensor.numpy()
        if not (np.abs(array) > LARGEST[self.compute]).any():
            return value
        name = f"{value.name}.clamped"
        known = self.graph.initializers.get(name)
        return known or insert_constant_tensor(
            before, name, ir.Tensor(self._clamp(array), dtype=FLOAT, name=name)
        )

    def _clamp(self, array: np.ndarray) -> np.ndarray:
        largest = np.float32(LARGEST[self.compute])
        return np.clip(array, -largest, largest)

    def _type_outputs(self) -> None:
        """Let carries leave in 16 bits, and everything else in its own type."""
        for index, value in enumerate(self.graph.outputs):
            wanted = self.kind if value in self.outputs else FLOAT
            if value.dtype not in (FLOAT, self.kind) or value.dtype == wanted:
                continue
            name = value.name
            value.name = f"{name}.{value.dtype.name.lower()}"
            node = ir.node("Cast", [value], {"to": wanted}, name=f"{name}.cast")
            output = node.outputs[0]
            output.name, output.shape, output.type = name, value.shape, ir.TensorType(wanted)
            self.graph.append(node)
            self.graph.outputs[index] = output


def _is_hidden(value: ir.Value) -> bool:
    """Tell vectors of tokens from numbers that a policy adds up."""
    return value.dtype == FLOAT and value.shape.rank() >= 3


def _before(nodes: Iterable[ir.Node]) -> set[ir.Node]:
    """Find the nodes whose floats lead to some nodes, past integers of a product too."""
    found: set[ir.Node] = set()
    pending = [value for node in nodes for value in node.inputs]
    while pending:
        value = pending.pop()
        node = None if value is None else value.producer()
        if node is None or node in found:
            continue
        if value.dtype == FLOAT or node.op_type in LINKS:
            found.add(node)
            pending += node.inputs
    return found


def _constant_of(value: ir.Value) -> ir.TensorProtocol | None:
    """Return a constant of floats, or what a Cast widens to one."""
    if value.const_value is not None:
        return value.const_value
    node = value.producer()
    if node is None or node.op_type != "Cast":
        return None
    return node.inputs[0].const_value

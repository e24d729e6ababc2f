"""Store weights the way they are multiplied."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def fold_weight_transposes(model: ir.Model) -> int:
    """Replace, in place, the Transpose of a weight by the transposed weight.

    Before: `MatMul(x, Transpose(weight))`; after: `MatMul(x, weight transposed)`. The tracer folds
    weights that one layer uses, and leaves those that several layers share (ALBERT); each is
    transposed once here.

    Returns:
        How many transposes were left out.
    """
    left_out = 0
    folded: dict[tuple[ir.Value, tuple[int, ...]], ir.Value] = {}
    for node in list(model.graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or not weight.is_initializer() or weight.const_value is None:
            continue
        order = tuple(node.attributes.get_ints("perm", range(len(weight.shape or ()))[::-1]))
        if (weight, order) not in folded:
            array = np.ascontiguousarray(weight.const_value.numpy().transpose(order))
            name = f"{weight.name}_transposed_{len(folded)}"
            folded[weight, order] = ir.Value(
                name=name,
                shape=ir.Shape(array.shape),
                type=weight.type,
                const_value=ir.tensor(array, name=name),
            )
            model.graph.register_initializer(folded[weight, order])
        ir.convenience.replace_all_uses_with(node.outputs[0], folded[weight, order])
        left_out += 1
    return left_out

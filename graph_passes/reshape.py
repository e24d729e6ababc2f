"""Give every Reshape a constant target, so that no layer depends on the shape of `input_ids`."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def constant_reshapes(model: ir.Model) -> int:
    """Replace computed Reshape targets, in place, by constants with 0 (copy) and -1 (infer).

    Before: `Reshape(x [batch, sequence, 768], Concat(Shape(input_ids) ..., 12, 64))`.
    After: `Reshape(x, [0, 0, 12, 64])`.

    A target is left alone where the symbolic shapes leave more than one extent open.

    Returns:
        How many targets became constants.
    """
    replaced = 0
    constants: dict[tuple[int, ...], ir.Value] = {}
    for node in model.graph:
        if node.op_type != "Reshape" or ir.convenience.get_const_tensor(node.inputs[1]):
            continue
        target = _target(node.inputs[0].shape, node.outputs[0].shape)
        if target is None:
            continue
        if target not in constants:
            name = "shape_" + "_".join(str(extent).replace("-1", "rest") for extent in target)
            constants[target] = ir.Value(
                name=name, const_value=ir.tensor(np.array(target, np.int64), name=name)
            )
            model.graph.register_initializer(constants[target])
        node.replace_input_with(1, constants[target])
        node.attributes.pop("allowzero", None)
        replaced += 1
    return replaced


def _target(before: ir.Shape | None, after: ir.Shape | None) -> tuple[int, ...] | None:
    if before is None or after is None:
        return None
    target = []
    for axis, extent in enumerate(after):
        if isinstance(extent, int):
            target.append(extent)
        elif axis < len(before) and extent.value is not None and before[axis] == extent:
            target.append(0)
        else:
            target.append(-1)
    return tuple(target) if target.count(-1) <= 1 else None

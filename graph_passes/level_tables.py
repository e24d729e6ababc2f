"""Tables of integers that are read by row: TensorRT gathers no int8."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from effbert.graph_passes.insert import insert_constant
from effbert.graph_passes.symmetric_int8 import IN_FLOAT32


def widen_tables(model: ir.Model) -> int:
    """Store int8 tables behind a Gather as float16, in place; the levels, -127 to 127, are exact.

    Before: `Cast(Gather(int8 levels, ids))`; after: `Cast(Gather(float16 levels, ids))`.

    Returns:
        How many tables were widened.
    """
    widened = 0
    for table in [*model.graph.initializers.values()]:
        tensor, readers = table.const_value, [use.node for use in table.uses()]
        if tensor is None or tensor.dtype != ir.DataType.INT8 or not readers:
            continue
        if any(node.op_type != "Gather" for node in readers):
            continue
        levels = tensor.numpy().astype(np.float16)
        wide = insert_constant(readers[0], f"{table.name}.float16", levels)
        for node in readers:
            node.replace_input_with(0, wide)
            node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
            _keep_exact(node)
        model.graph.initializers.pop(table.name)
        widened += 1
    return widened


def _keep_exact(gather: ir.Node) -> None:
    """Leave the product of level and scale in float32: a scale may be too small for 16 bits."""
    for cast in (use.node for use in gather.outputs[0].uses()):
        if cast.op_type == "Cast":
            for use in cast.outputs[0].uses():
                scales = (value.producer() for value in use.node.inputs)
                for node in (use.node, *scales):
                    if node is not None:
                        node.meta[IN_FLOAT32] = True

"""Products in int8 add their bias themselves, which saves onnxruntime a pass over the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from effbert.runtime.engines.onnxruntime.graph_bytes import (
    DTYPES,
    MODEL_OPSETS,
    Branch,
    Node,
    encode_attribute,
)
from effbert.runtime.engines.onnxruntime.protobuf import encode_field

DOMAIN = "com.microsoft"
IMPORT = encode_field(
    MODEL_OPSETS, encode_field(1, DOMAIN) + encode_field(2, 1)
)  # goes with `Branch.versions`
FUSED = "MatMulIntegerToFloat"
# Attributes with which the scales of a matrix are those of its columns.
OF_COLUMNS: tuple[list[bytes], ...] = ([], [encode_attribute("axis", number=1)])
UINT8, INT8, FLOAT = DTYPES["uint8"], DTYPES["int8"], DTYPES["float32"]


def fuse_biases(branch: Branch, outputs: Collection[str]) -> bool:
    """Make one operator of a product in int8 and the addition of its bias.

    Before: `MatMul(Dequantize(x), Dequantize(weight)) + bias`, of which onnxruntime makes a
    `MatMulIntegerToFloat` and an `Add`. After: the former, with the bias, in the same precision.
    A value that only a graph inside of another node reads may be gone afterwards; onnxruntime
    refuses such a file, and its segments run one by one.

    Args:
        branch: Changed in place.
        outputs: Names of its values that are read elsewhere.

    Returns:
        Whether there was one.
    """
    made = {name: node for node in branch.nodes for name in node.outputs}
    readers = Counter(name for node in branch.nodes for name in node.inputs)
    readers.update(outputs)
    fused: dict[Node, Node] = {}  # by the addition that it replaces
    replaced: list[str] = []
    for add in branch.nodes:
        product, inputs = _product(branch, add, made)
        if product is None or readers[product.outputs[0]] != 1:
            continue
        fused[add] = product.replaced(FUSED, DOMAIN, inputs, add.outputs)
        replaced += (*product.outputs, *product.inputs)
    readers.subtract(replaced)
    unread = {name for name in replaced if not readers[name]}
    branch.nodes = [
        fused.get(node, node) for node in branch.nodes if unread.isdisjoint(node.outputs)
    ]
    return bool(fused)


def _product(branch: Branch, add: Node, made: dict[str, Node]) -> tuple[Node | None, list[str]]:
    """Return the product in int8 to which a node adds a bias, and the inputs of what does both."""
    if add.operator != "Add":
        return None, []
    for name, bias in (add.inputs, add.inputs[::-1]):
        product = made.get(name)
        if product is None or product.operator != "MatMul":
            continue
        values, weight = (_levels(made.get(each)) for each in product.inputs)
        if values is None or weight is None:
            continue
        (levels, step, zero), (matrix, steps, zeros) = values, weight
        dtype, extents = branch.kind(matrix)
        columns = extents[1:]
        if (
            (dtype, len(extents)) == (INT8, 2)
            and branch.kind(step) == (FLOAT, [])
            and branch.kind(zero) == (UINT8, [])
            and branch.kind(steps) == branch.kind(bias) == (FLOAT, columns)
            and branch.kind(zeros) == (INT8, columns)
        ):
            return product, [levels, matrix, step, steps, zero, zeros, bias]
    return None, []


def _levels(node: Node | None) -> list[str] | None:
    """Names of levels, step and zero point, if a node makes numbers of them."""
    if node is None or node.operator != "DequantizeLinear" or len(node.inputs) != 3:
        return None
    return node.inputs if node.attributes in OF_COLUMNS else None

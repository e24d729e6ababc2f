"""Name the symbolic dimensions of a traced graph `batch` and `sequence`."""

from __future__ import annotations

import re

import onnx_ir as ir

NAMES = ("batch", "sequence")


def name_dimensions(model: ir.Model) -> None:
    """Rename, in place, the tracer's symbols of axes 0 and 1 of every input.

    Before: `input_ids [s18, s43]`; after: `input_ids [batch, sequence]`, and so on in every value
    that mentions the symbols, inside expressions too.
    """
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        for extent, name in zip(value.shape or (), NAMES, strict=False):  # knobs have no axes
            if isinstance(extent, ir.SymbolicDim):
                names[str(extent)] = name
    if not names:
        return
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")

    def renamed(dim: int | ir.SymbolicDim) -> int | str:
        return dim if isinstance(dim, int) else pattern.sub(lambda m: names[m[0]], str(dim))

    values = [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape([renamed(dim) for dim in value.shape])

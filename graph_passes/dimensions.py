"""Name the symbolic dimensions of a traced graph `batch` and `sequence`."""

from __future__ import annotations

import re

import onnx_ir as ir

NAMES = ("batch", "sequence")
COUNTED, LOOKED_AT = "tokens", "heads"


def name_dimensions(model: ir.Model) -> int:
    """Rename, in place, the tracer's symbols of axes 0 and 1 of every input.

    Before: `input_ids [s18, s43]`; after: `input_ids [batch, sequence]`, and so on in every value
    that mentions the symbols, inside expressions too. Extents that the model itself counts out
    become `tokens_0`, `tokens_1`, ...: onnxruntime takes equal names for equal extents. A multiple
    of a number that it counts out becomes `heads_2`: of all heads or none, as tokens are dropped.

    Returns:
        How many symbols were renamed.
    """
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        for extent, name in zip(value.shape or (), NAMES, strict=False):  # knobs have no axes
            if isinstance(extent, ir.SymbolicDim):
                names[str(extent)] = name
    names |= {name: f"{COUNTED}_{name[1:]}" for name in _counted(model, r"u\d+")}
    names |= {name: f"{LOOKED_AT}_{name.split('u')[1]}" for name in _counted(model, r"\d+\*u\d+")}
    if not names:
        return 0
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")

    def renamed(dim: int | ir.SymbolicDim) -> int | str:
        return dim if isinstance(dim, int) else pattern.sub(lambda m: names[m[0]], str(dim))

    values = [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape([renamed(dim) for dim in value.shape])
    return len(names)


def _counted(model: ir.Model, form: str) -> set[str]:
    """Extents of a form that depend on values; the tracer calls these u0, u1, ..."""
    values = (value for node in model.graph for value in node.outputs if value.shape is not None)
    extents = {str(extent) for value in values for extent in value.shape or ()}
    return {extent for extent in extents if re.fullmatch(form, extent)}

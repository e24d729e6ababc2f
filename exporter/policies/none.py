"""No policy: every row runs to the last exit."""

from __future__ import annotations

from onnxscript import BOOL, FLOAT, script
from onnxscript import opset20 as op

from effbert.exporter.policies.policy import Policy


@script(default_opset=op)
def zero(logits: FLOAT[...]) -> FLOAT[...]:
    """Compute a signal that says nothing: 0 for every row."""
    first = op.Flatten(logits, axis=1)
    column = op.Slice(first, [0], [1], [1])
    return op.Squeeze(op.Sub(column, column), [-1])


@script(default_opset=op)
def nowhere(signal: FLOAT[...]) -> BOOL[...]:
    """Answer false for every row."""
    return op.Less(signal, signal)


NONE = Policy(
    name="none",
    rule="no row stops before the last exit",
    paper="",
    signal=zero,
    fires=nowhere,
    problems=(
        "single-label",
        "multi-label",
        "regression",
        "token-classification",
        "question-answering",
    ),
)

"""Stop where all tokens have halted (Adaptive Computation Time)."""

from __future__ import annotations

from onnxscript import FLOAT, script
from onnxscript import opset20 as op

from effbert.exporter.policies.comparisons import AT_LEAST, at_least
from effbert.exporter.policies.policy import Policy


@script(default_opset=op)
def least_halted(halted: FLOAT[...]) -> FLOAT[...]:
    """Compute the smallest halting probability that a token of the row has gathered."""
    return op.Identity(halted)


ACT = Policy(
    name="act",
    rule="stop where every token has gathered a halting probability >= `threshold`",
    paper="Adaptive Computation Time (Graves, 2016), https://arxiv.org/abs/1603.08983",
    signal=least_halted,
    fires=at_least,
    knobs=(AT_LEAST,),
    problems=("single-label", "regression"),
    needs={"halted": "a trained halting unit (ACT)"},
)

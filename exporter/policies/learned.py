"""Stop where a classifier trained for that says so (BERxiT's learning to exit)."""

from __future__ import annotations

from onnxscript import FLOAT, script
from onnxscript import opset20 as op

from effbert.exporter.policies.comparisons import BELOW, below
from effbert.exporter.policies.policy import Policy


@script(default_opset=op)
def score(exit_score: FLOAT[...]) -> FLOAT[...]:
    """Compute what the exit's own classifier says: how unsure the answer is."""
    return op.Identity(exit_score)


LEARNED = Policy(
    name="learned",
    rule="stop where the uncertainty that the exit predicts for itself is < `threshold`",
    paper="BERxiT (Xin et al., EACL 2021), https://aclanthology.org/2021.eacl-main.8",
    signal=score,
    fires=below,
    knobs=(BELOW,),
    problems=("single-label", "regression"),
    needs={"exit_score": "a trained learning-to-exit classifier"},
)

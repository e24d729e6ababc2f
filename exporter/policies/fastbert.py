"""FastBERT's comparison: go on while the entropy is above the speed, so NaN stops."""

from __future__ import annotations

from onnxscript import BOOL, FLOAT, script
from onnxscript import opset20 as op

from effbert.exporter.policies.comparisons import BELOW
from effbert.exporter.policies.entropy import entropy_categorical
from effbert.exporter.policies.policy import Policy


@script(default_opset=op)
def not_above(signal: FLOAT[...], threshold: FLOAT) -> BOOL[...]:
    """Tell where the signal is not above the threshold: below it, equal to it, or NaN."""
    return op.Not(op.Greater(signal, threshold))


ENTROPY_FASTBERT = Policy(
    name="entropy-fastbert",
    rule="stop unless entropy / ln(classes), clipped as in FastBERT, > threshold",
    paper="FastBERT (Liu et al., ACL 2020), https://aclanthology.org/2020.acl-main.537",
    signal=entropy_categorical,
    fires=not_above,
    knobs=(BELOW,),
)

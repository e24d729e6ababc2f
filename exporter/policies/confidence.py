"""Stop where the model is sure of one class: its probability, or its lead over the next.

The comparison differs between papers: The Right Tool for the Job stops at the threshold itself,
CascadeBERT only above it.
"""

from __future__ import annotations

from onnxscript import FLOAT, script
from onnxscript import opset20 as op

from effbert.exporter.policies.comparisons import AT_LEAST, TEMPERATURE, above, at_least
from effbert.exporter.policies.policy import Policy


@script(default_opset=op)
def largest_probability(logits: FLOAT[...]) -> FLOAT[...]:
    """Compute the probability of the likeliest class."""
    return op.ReduceMax(op.Softmax(logits, axis=-1), [-1], keepdims=0)


@script(default_opset=op)
def calibrated_probability(logits: FLOAT[...], temperature: FLOAT) -> FLOAT[...]:
    """Compute the probability of the likeliest class, logits divided by a temperature before."""
    return op.ReduceMax(op.Softmax(logits / temperature, axis=-1), [-1], keepdims=0)


@script(default_opset=op)
def lead(logits: FLOAT[...]) -> FLOAT[...]:
    """How much likelier the likeliest class is than the next."""
    best, _ = op.TopK(op.Softmax(logits, axis=-1), op.Constant(value_ints=[2]), axis=-1)
    return op.Squeeze(op.Sub(op.Slice(best, [0], [1], [-1]), op.Slice(best, [1], [2], [-1])), [-1])


CONFIDENCE = Policy(
    name="confidence",
    rule="stop where the largest probability of logits / `temperature` is >= `threshold`",
    paper="The Right Tool for the Job (Schwartz et al., ACL 2020)",
    signal=calibrated_probability,
    tempered=largest_probability,
    fires=at_least,
    knobs=(AT_LEAST, TEMPERATURE),
)
CONFIDENCE_ABOVE = Policy(
    name="confidence-above",
    rule="stop where the largest probability is > `threshold`",
    paper="CascadeBERT (Li et al., Findings of EMNLP 2021)",
    signal=largest_probability,
    fires=above,
    knobs=(AT_LEAST,),
)
MARGIN = Policy(
    name="margin",
    rule="stop where the two largest probabilities are >= `threshold` apart",
    paper="",
    signal=lead,
    fires=at_least,
    knobs=(AT_LEAST,),
)

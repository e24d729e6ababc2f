"""Stop where enough exits have voted for the same label; the vote is also the answer.

After n exits, label c has v_c votes and the rule compares max_c v_c / n^`vote_exponent`. Written
from the description of the idea; the exact formula of the paper is not published as code, so no
claim of equal decisions is made.
"""

from __future__ import annotations

from onnxscript import FLOAT, INT64, script
from onnxscript import opset20 as op

from effbert.exporter.policies.comparisons import AT_LEAST, at_least
from effbert.exporter.policies.policy import Policy
from effbert.runtime.bundle.manifest import Knob, State


@script(default_opset=op)
def agreement(
    logits: FLOAT[...], votes: INT64[...], voters: INT64[...], vote_exponent: FLOAT
) -> tuple[FLOAT[...], INT64[...], INT64[...]]:
    """Compute the most votes that a label has, over voters to the power of vote_exponent."""
    label = op.ArgMax(logits, axis=-1, keepdims=0)
    classes = op.Shape(logits, start=-1)
    one = op.OneHot(label, op.Squeeze(classes), op.Constant(value_ints=[0, 1]), axis=-1)
    counted = op.Add(votes, one)
    heard = op.Add(voters, op.Constant(value_int=1))
    most = op.Cast(op.ReduceMax(counted, [-1], keepdims=0), to=FLOAT.dtype)
    return most / op.Pow(op.Cast(heard, to=FLOAT.dtype), vote_exponent), counted, heard


@script(default_opset=op)
def shares(votes: INT64[...], voters: INT64[...]) -> FLOAT[...]:
    """Logits whose softmax is the share of votes of each label; no votes count as a billionth."""
    heard = op.Unsqueeze(op.Cast(voters, to=FLOAT.dtype), [-1])
    return op.Log(op.Max(op.Cast(votes, to=FLOAT.dtype), 1e-9) / heard)


EXPONENT = Knob(
    name="vote_exponent",
    dtype="float32",
    minimum=0,
    maximum=1,
    default=0,
    never=0,
    per_exit=False,
    raising="later",
)

VOTE = Policy(
    name="vote",
    rule="stop where max votes / voters ^ `vote_exponent` >= `threshold`; answer the vote",
    paper="Early Exiting with Ensemble Internal Classifiers (Sun et al., 2021), arXiv 2105.13792",
    signal=agreement,
    fires=at_least,
    answer=shares,
    states=(
        State(name="votes", dtype="int64", axes=["batch", "classes"], initial=0),  # type: ignore[list-item]
        State(name="voters", dtype="int64", axes=["batch"], initial=0),
    ),
    knobs=(AT_LEAST, EXPONENT),
)

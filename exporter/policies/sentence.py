"""Token-level tasks: stop a sentence where all its words are sure (SENTEE).

A word is judged at its first piece, which the input `word_map` tells. Entropies are divided by
ln(classes).
"""

from __future__ import annotations

from onnxscript import FLOAT, INT64, script
from onnxscript import opset20 as op

from effbert.exporter.policies.comparisons import AT_LEAST, BELOW, above, below
from effbert.exporter.policies.policy import Policy

INFINITY, NAN = float("inf"), float("nan")
SENTEE = "SENTEE (Li et al., ACL 2021), https://aclanthology.org/2021.acl-long.16"


@script(default_opset=op)
def most_unsure(logits: FLOAT[...], word_map: INT64[...]) -> FLOAT[...]:
    """Compute the largest normalised entropy of a word; NaN if that of any word is."""
    exponential = op.Exp(logits)
    total = op.ReduceSum(exponential, [-1], keepdims=0)
    weighted = op.ReduceSum(logits * exponential, [-1], keepdims=0)
    classes = op.Cast(op.Shape(logits, start=-1), to=FLOAT.dtype)
    entropy = (op.Log(total) - weighted / total) / op.Log(classes)
    positions = op.Range(0, op.Squeeze(op.Shape(word_map, start=1)), 1)
    word = op.Equal(word_map, positions)
    largest = op.ReduceMax(op.Where(word, entropy, -INFINITY), [-1], keepdims=0)
    unknown = op.Cast(op.And(word, op.IsNaN(entropy)), to=FLOAT.dtype)
    return op.Where(op.ReduceMax(unknown, [-1], keepdims=0) > 0.0, NAN, largest)


@script(default_opset=op)
def least_sure(logits: FLOAT[...], word_map: INT64[...]) -> FLOAT[...]:
    """Compute the smallest probability that a word's likeliest label has."""
    best = op.ReduceMax(op.Softmax(logits, axis=-1), [-1], keepdims=0)
    positions = op.Range(0, op.Squeeze(op.Shape(word_map, start=1)), 1)
    word = op.Equal(word_map, positions)
    return op.ReduceMin(op.Where(word, best, INFINITY), [-1], keepdims=0)


SENTENCE_ENTROPY = Policy(
    name="sentence-entropy",
    rule="stop where every word's entropy / ln(classes) is < `threshold`",
    paper=SENTEE,
    signal=most_unsure,
    fires=below,
    knobs=(BELOW,),
    problems=("token-classification",),
)
SENTENCE_CONFIDENCE = Policy(
    name="sentence-confidence",
    rule="stop where every word's largest probability is > `threshold`",
    paper=SENTEE,
    signal=least_sure,
    fires=above,
    knobs=(AT_LEAST,),
    problems=("token-classification",),
)

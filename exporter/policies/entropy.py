"""Stop where the prediction's entropy is below a threshold.

The flavours differ for extreme logits only, and exist to decide exactly as the authors' code does:
`entropy-naive` is NaN once a probability underflows (NaN never stops), `entropy-exp` overflows for
logits beyond 84. `entropy` is right for every finite logit and the choice for new models.
"""

from __future__ import annotations

from onnxscript import FLOAT, script
from onnxscript import opset20 as op

from effbert.exporter.policies.comparisons import BELOW, below
from effbert.exporter.policies.policy import Policy

DEEBERT = "DeeBERT (Xin et al., ACL 2020)"


@script(default_opset=op)
def entropy_safe(logits: FLOAT[...]) -> FLOAT[...]:
    """-sum p ln p from the log-softmax, so that p = 0 contributes 0."""
    terms = op.Softmax(logits, axis=-1) * op.LogSoftmax(logits, axis=-1)
    return op.Neg(op.ReduceSum(terms, [-1], keepdims=0))


@script(default_opset=op)
def entropy_naive(logits: FLOAT[...]) -> FLOAT[...]:
    """-sum p ln p, literally."""
    probability = op.Softmax(logits, axis=-1)
    terms = probability * op.Log(probability)
    return op.Neg(op.ReduceSum(terms, [-1], keepdims=0))


@script(default_opset=op)
def entropy_exp(logits: FLOAT[...]) -> FLOAT[...]:
    """Entropy as ln sum exp x - sum x exp x / sum exp x, without subtracting the maximum."""
    exponential = op.Exp(logits)
    total = op.ReduceSum(exponential, [-1], keepdims=0)
    weighted = op.ReduceSum(logits * exponential, [-1], keepdims=0)
    return op.Log(total) - weighted / total


@script(default_opset=op)
def entropy_categorical(logits: FLOAT[...]) -> FLOAT[...]:
    """-sum p ln clip(p, e, 1 - e) / ln C with float32's e: torch's Categorical, normalised."""
    probability = op.Softmax(logits, axis=-1)
    probability = probability / op.ReduceSum(probability, [-1], keepdims=1)
    clipped = op.Clip(probability, 1.1920928955078125e-07, 0.9999998807907104)
    total = op.Neg(op.ReduceSum(probability * op.Log(clipped), [-1], keepdims=0))
    classes = op.Cast(op.Shape(logits, start=-1), to=FLOAT.dtype)
    return total / op.Log(classes)


def _policy(name: str, rule: str, signal: object) -> Policy:
    return Policy(
        name=name,
        rule=f"stop where {rule} < threshold",
        paper=DEEBERT,
        signal=signal,
        fires=below,
        knobs=(BELOW,),
    )


ENTROPY = _policy("entropy", "entropy (nats)", entropy_safe)
ENTROPY_NAIVE = _policy("entropy-naive", "-sum p ln p", entropy_naive)
ENTROPY_EXP = _policy("entropy-exp", "ln sum e^x - sum x e^x / sum e^x", entropy_exp)
ENTROPY_CATEGORICAL = _policy(
    "entropy-categorical", "entropy / ln(classes), clipped as in FastBERT", entropy_categorical
)

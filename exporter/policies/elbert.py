"""Stop where the entropy is low, or where the probability of the first class has settled (ELBERT).

The entropy is divided by ln(classes). The rules bias-1 to bias-3 differ in when a window of
probabilities counts as settled; the middle is always 1/2, so they are meant for two classes.
"""

from __future__ import annotations

from typing import Any, Literal

from onnxscript import FLOAT, INT64, OnnxFunction, script
from onnxscript import opset20 as op

from effbert.exporter.policies.comparisons import BELOW, below
from effbert.exporter.policies.policy import Policy
from effbert.exporter.policies.window import CAPACITY, monotone, one_sided, steady
from effbert.runtime.bundle.manifest import Knob, State

ELBERT = "ELBERT (Xie et al., ICASSP 2021)"


@script(default_opset=op)
def normalised_entropy(logits: FLOAT[...]) -> FLOAT[...]:
    """Sum p ln p over ln(1 / classes); NaN where a probability underflows."""
    probability = op.Softmax(logits, axis=-1)
    total = op.ReduceSum(probability * op.Log(probability), [-1], keepdims=0)
    classes = op.Cast(op.Shape(logits, start=-1), to=FLOAT.dtype)
    return total / op.Log(op.Reciprocal(classes))


@script(default_opset=op)
def remembered(
    logits: FLOAT[...], history: FLOAT[...], seen: INT64[...]
) -> tuple[FLOAT[...], FLOAT[...], INT64[...]]:
    """Compute the same, and the first class's probability appended to those of the exits before."""
    probability = op.Softmax(logits, axis=-1)
    total = op.ReduceSum(probability * op.Log(probability), [-1], keepdims=0)
    classes = op.Cast(op.Shape(logits, start=-1), to=FLOAT.dtype)
    kept, new = op.Slice(history, [1], [64], [1]), op.Slice(probability, [0], [1], [1])
    longer = op.Add(seen, op.Constant(value_int=1))
    return total / op.Log(op.Reciprocal(classes)), op.Concat(kept, new, axis=1), longer


@script(default_opset=op)
def least_probability(logits: FLOAT[...]) -> FLOAT[...]:
    """Compute the probability of the unlikeliest class."""
    return op.ReduceMin(op.Softmax(logits, axis=-1), [-1], keepdims=0)


def _knob(name: str, dtype: Literal["float32", "int64"], default: float, **more: Any) -> Knob:
    return Knob(name=name, dtype=dtype, default=default, per_exit=False, **more)


NEVER = CAPACITY + 1
WINDOW = _knob("window", "int64", NEVER, minimum=0, maximum=NEVER, never=NEVER, raising="later")
MARGIN = _knob("margin", "float32", 0, minimum=0, maximum=0.5, never=0.5, raising="later")
RANGE = _knob("range", "float32", -1, minimum=-1, maximum=1, never=-1, raising="earlier")
STATES = (
    State(name="history", dtype="float32", axes=["batch", CAPACITY], initial=0),
    State(name="seen", dtype="int64", axes=["batch"], initial=0),
)


def _policy(name: str, rule: str, signal: OnnxFunction, fires: OnnxFunction, *own: Knob) -> Policy:
    states = STATES if own else ()
    return Policy(name, f"stop where {rule}", ELBERT, signal, fires, states, (BELOW, *own))


LOW = "entropy / ln(classes) < `threshold`"
LAST = f"{LOW}, or the last `window` probabilities of the first class"
AWAY = f"{LAST} start outside 1/2 -+ `margin` and never move back"
SIDE = f"{LAST} are all above 1/2 + `margin` or all below 1/2 - `margin`"
NEAR = f"{SIDE}, and within `range`"
ELBERT_ENTROPY = _policy("elbert-entropy", LOW, normalised_entropy, below)
ELBERT_BIAS_1 = _policy("elbert-bias-1", SIDE, remembered, one_sided, WINDOW, MARGIN)
ELBERT_BIAS_2 = _policy("elbert-bias-2", AWAY, remembered, monotone, WINDOW, MARGIN)
ELBERT_BIAS_3 = _policy("elbert-bias-3", NEAR, remembered, steady, WINDOW, MARGIN, RANGE)
ELBERT_LOGITS = _policy("elbert-logits", "min p < `threshold`", least_probability, below)

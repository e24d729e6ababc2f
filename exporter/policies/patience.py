"""Stop where enough exits in a row agree (PABEE)."""

from __future__ import annotations

from onnxscript import BOOL, FLOAT, INT64, script
from onnxscript import opset20 as op

from effbert.exporter.policies.comparisons import PATIENCE_KNOB, REGRESSION_KNOB
from effbert.exporter.policies.policy import Policy
from effbert.runtime.bundle.manifest import State

PABEE = "PABEE: BERT Loses Patience (Zhou et al., NeurIPS 2020)"


@script(default_opset=op)
def label_streak(
    logits: FLOAT[...], previous_label: INT64[...], streak: INT64[...]
) -> tuple[FLOAT[...], INT64[...], INT64[...]]:
    """Count how many exits in a row kept the previous exit's label; a change resets to 0."""
    label = op.ArgMax(logits, axis=-1, keepdims=0)
    longer = op.Add(streak, op.Constant(value_int=1))
    count = op.Where(op.Equal(label, previous_label), longer, op.Constant(value_int=0))
    return op.Cast(count, to=FLOAT.dtype), label, count


@script(default_opset=op)
def value_streak(
    logits: FLOAT[...],
    previous_value: FLOAT[...],
    streak: INT64[...],
    regression_threshold: FLOAT,
) -> tuple[FLOAT[...], FLOAT[...], INT64[...]]:
    """Count how many exits in a row moved by less than regression_threshold."""
    value = op.Squeeze(logits, [-1])
    steady = op.Less(op.Abs(previous_value - value), regression_threshold)
    longer = op.Add(streak, op.Constant(value_int=1))
    count = op.Where(steady, longer, op.Constant(value_int=0))
    return op.Cast(count, to=FLOAT.dtype), op.Identity(value), count


@script(default_opset=op)
def reached(signal: FLOAT[...], threshold: INT64) -> BOOL[...]:
    """Tell where the streak is exactly the patience; patience 0 means never."""
    exactly = op.Equal(signal, op.Cast(threshold, to=FLOAT.dtype))
    return op.And(exactly, op.Greater(threshold, op.Constant(value_int=0)))


STREAK = State(name="streak", dtype="int64", axes=["batch"], initial=0)

PATIENCE = Policy(
    name="patience",
    rule="stop where `threshold` exits in a row kept the label",
    paper=PABEE,
    signal=label_streak,
    fires=reached,
    states=(State(name="previous_label", dtype="int64", axes=["batch"], initial=-1), STREAK),
    knobs=(PATIENCE_KNOB,),
)
PATIENCE_REGRESSION = Policy(
    name="patience-regression",
    rule="stop where `threshold` exits in a row moved by less than `regression_threshold`",
    paper=PABEE,
    signal=value_streak,
    fires=reached,
    states=(State(name="previous_value", dtype="float32", axes=["batch"], initial="nan"), STREAK),
    knobs=(PATIENCE_KNOB, REGRESSION_KNOB),
    problems=("regression",),
)

"""What the probabilities of the first class at the latest exits tell: ELBERT's second stages.

`history` [batch, 64] holds them, the newest last, and `seen` how many of them are real. A row stops
where the entropy is below `threshold`, or where it has seen `window` probabilities and the last so
many agree on a side of 1/2. Every comparison with NaN is false.
"""

from __future__ import annotations

from onnxscript import BOOL, FLOAT, INT64, script
from onnxscript import opset20 as op

CAPACITY = 64  # as many as a bundle has exits


@script(default_opset=op)
def one_sided(
    signal: FLOAT[...],
    history: FLOAT[...],
    seen: INT64[...],
    threshold: FLOAT,
    window: INT64,
    margin: FLOAT,
) -> BOOL[...]:
    """All below 1/2 - margin, or all above 1/2 + margin; an empty window agrees."""
    outside = op.Greater(op.Range(CAPACITY, 0, -1), window)
    below = op.Or(outside, op.Less(history, 0.5 - margin))
    above = op.Or(outside, op.Greater(history, 0.5 + margin))
    all_below = op.ReduceMin(op.Cast(below, to=INT64.dtype), [-1], keepdims=0)
    all_above = op.ReduceMin(op.Cast(above, to=INT64.dtype), [-1], keepdims=0)
    agree = op.Cast(op.Max(all_below, all_above), to=BOOL.dtype)
    return op.Or(op.Less(signal, threshold), op.And(agree, op.GreaterOrEqual(seen, window)))


@script(default_opset=op)
def monotone(
    signal: FLOAT[...],
    history: FLOAT[...],
    seen: INT64[...],
    threshold: FLOAT,
    window: INT64,
    margin: FLOAT,
) -> BOOL[...]:
    """From the oldest, outside 1/2 -+ margin, never back; an empty window asks the first exit."""
    ages = op.Range(CAPACITY, 0, -1)
    age = op.Unsqueeze(op.Where(op.Equal(window, op.Constant(value_int=0)), seen, window), [-1])
    oldest = op.ReduceSum(op.Where(op.Equal(ages, age), history, 0.0), [-1], keepdims=0)
    older, newer = op.Slice(history, [0], [-1], [1]), op.Slice(history, [1], [64], [1])
    outside = op.Greater(op.Slice(ages, [0], [-1], [0]), window)
    falling = op.Cast(op.Or(outside, op.LessOrEqual(newer, older)), to=INT64.dtype)
    rising = op.Cast(op.Or(outside, op.GreaterOrEqual(newer, older)), to=INT64.dtype)
    falls = op.Cast(op.ReduceMin(falling, [-1], keepdims=0), to=BOOL.dtype)
    rises = op.Cast(op.ReduceMin(rising, [-1], keepdims=0), to=BOOL.dtype)
    sinks = op.And(op.Less(oldest, 0.5 - margin), falls)
    agree = op.Or(sinks, op.And(op.Greater(oldest, 0.5 + margin), rises))
    return op.Or(op.Less(signal, threshold), op.And(agree, op.GreaterOrEqual(seen, window)))


@script(default_opset=op)
def steady(
    signal: FLOAT[...],
    history: FLOAT[...],
    seen: INT64[...],
    threshold: FLOAT,
    window: INT64,
    margin: FLOAT,
    range: FLOAT,
) -> BOOL[...]:
    """As `one_sided`, and not further apart than range; an empty window asks all exits so far."""
    age = op.Unsqueeze(op.Where(op.Equal(window, op.Constant(value_int=0)), seen, window), [-1])
    inside = op.LessOrEqual(op.Range(CAPACITY, 0, -1), age)
    least = op.ReduceMin(op.Where(inside, history, 2.0), [-1], keepdims=0)
    most = op.ReduceMax(op.Where(inside, history, -1.0), [-1], keepdims=0)
    sided = op.Or(op.Greater(least, 0.5 + margin), op.Less(most, 0.5 - margin))
    agree = op.And(sided, op.LessOrEqual(op.Sub(most, least), range))
    return op.Or(op.Less(signal, threshold), op.And(agree, op.GreaterOrEqual(seen, window)))

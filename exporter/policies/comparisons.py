"""Comparisons with a threshold, and the knobs that several policies share.

The comparison is also the rule for NaN: all of these are false for it, so that the row goes on.
"""

from __future__ import annotations

import msgspec
from onnxscript import BOOL, FLOAT, script
from onnxscript import opset20 as op

from effbert.runtime.bundle.manifest import Knob


@script(default_opset=op)
def below(signal: FLOAT[...], threshold: FLOAT) -> BOOL[...]:
    """Tell where the signal is strictly below the threshold; NaN goes on."""
    return op.Less(signal, threshold)


@script(default_opset=op)
def at_least(signal: FLOAT[...], threshold: FLOAT) -> BOOL[...]:
    """Tell where the signal reaches the threshold; NaN goes on."""
    return op.GreaterOrEqual(signal, threshold)


@script(default_opset=op)
def above(signal: FLOAT[...], threshold: FLOAT) -> BOOL[...]:
    """Tell where the signal is strictly above the threshold; NaN goes on."""
    return op.Greater(signal, threshold)


BELOW = Knob(
    name="threshold",
    dtype="float32",
    minimum="-inf",
    maximum="inf",
    default="-inf",
    never="-inf",
    per_exit=True,
    raising="earlier",
)
AT_LEAST = msgspec.structs.replace(BELOW, default="inf", never="inf", raising="later")
TEMPERATURE = Knob(
    name="temperature",
    dtype="float32",
    minimum=1e-3,
    maximum=1e3,
    default=1,
    never=1,
    per_exit=True,
    raising="later",
)
PATIENCE_KNOB = Knob(
    name="threshold",
    dtype="int64",
    minimum=0,
    maximum=512,
    default=0,
    never=0,
    per_exit=False,
    raising="later",
)
REGRESSION_KNOB = Knob(
    name="regression_threshold",
    dtype="float32",
    minimum=0,
    maximum="inf",
    default=0,
    never=0,
    per_exit=False,
    raising="earlier",
)

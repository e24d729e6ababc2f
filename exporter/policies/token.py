"""Token-level tasks: stop a sentence where all its words have left one by one (TOKEE).

Which words leave is decided in the model, because it decides what the next layer computes; see
`effbert.exporter.models.token_exit`.
"""

from __future__ import annotations

import msgspec
from onnxscript import BOOL, FLOAT, script
from onnxscript import opset20 as op

from effbert.exporter.policies.comparisons import BELOW
from effbert.exporter.policies.policy import Policy
from effbert.runtime.bundle.manifest import Knob

KNOBS = (
    BELOW,
    msgspec.structs.replace(BELOW, name="token_threshold"),
    Knob(
        name="window",
        dtype="int64",
        minimum=1,
        maximum=511,
        default=5,
        never=5,
        per_exit=False,
        raising="later",
    ),
)


@script(default_opset=op)
def as_it_is(words_left: FLOAT[...]) -> FLOAT[...]:
    """How many words of the sentence go on."""
    return op.Identity(words_left)


@script(default_opset=op)
def none_left(signal: FLOAT[...]) -> BOOL[...]:
    """Tell where no word goes on."""
    return op.Less(signal, 0.5)


TOKEN_ENTROPY = Policy(
    name="token-entropy",
    rule="a word stops where the largest entropy / ln(classes) of the `window` words around it is "
    "< `threshold`, or its own is < `token_threshold`; a sentence where all words did",
    paper="TOKEE (Li et al., ACL 2021), https://aclanthology.org/2021.acl-long.16",
    signal=as_it_is,
    fires=none_left,
    problems=("token-classification",),
    needs={"words_left": "words that leave one by one (TOKEE)"},
    model_knobs=KNOBS,
)

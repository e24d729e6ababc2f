"""What an exit policy is: a signal, a comparison, states and knobs, all declared."""

from __future__ import annotations

from dataclasses import dataclass

from onnxscript import OnnxFunction

from effbert.runtime.manifest import Knob, State


@dataclass(frozen=True)
class Policy:
    """A rule that says which rows stop at an exit.

    `signal(logits, states..., knobs...)` yields the signal, float32 [batch], and then the new value
    of each state; `fires(signal, knobs...)` says which rows stop, bool [batch]. Both are bound by
    the names of their arguments. A state's axes are those of the manifest.

    `problems` lists the problems whose logits the policy understands.
    """

    name: str
    rule: str
    paper: str
    signal: OnnxFunction
    fires: OnnxFunction
    states: tuple[State, ...] = ()
    knobs: tuple[Knob, ...] = ()
    problems: tuple[str, ...] = ("single-label",)

"""What an exit policy is: a signal, a comparison, states and knobs, all declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from onnxscript import OnnxFunction

from effbert.runtime.bundle.manifest import Knob, State


@dataclass(frozen=True)
class Policy:
    """A rule that says which rows stop at an exit.

    `signal(logits, extras..., states..., knobs...)` yields the signal, float32 [batch], and then
    the new value of each state; `fires(signal, states..., knobs...)` says which rows stop, bool
    [batch]; `answer(logits, states..., knobs...)`, where there is one, yields the logits answered
    instead. All are bound by the names of their arguments: states (by their new values in `fires`
    and `answer`), knobs, the extra outputs of exits that `needs` lists, and inputs of the bundle.
    A state's axes are those of the manifest, and `classes`.

    `needs` tells of each extra output, for people, what an exit must have to yield it.

    `problems` lists the problems whose logits the policy understands, `model_knobs` the knobs that
    the model reads where it decides for the policy. `tempered` is the signal for models that divide
    their logits by the knob `temperature` themselves.
    """

    name: str
    rule: str
    paper: str
    signal: OnnxFunction
    fires: OnnxFunction
    states: tuple[State, ...] = ()
    knobs: tuple[Knob, ...] = ()
    problems: tuple[str, ...] = ("single-label",)
    answer: OnnxFunction | None = None
    needs: Mapping[str, str] = field(default_factory=dict)
    model_knobs: tuple[Knob, ...] = ()
    tempered: OnnxFunction | None = None

    def fitted(self, classes: int, model_knobs: tuple[str, ...]) -> Policy:
        """Adapt to a model: the extent `classes` of states, and knobs that it reads itself."""
        states = tuple(
            State(
                name=state.name,
                dtype=state.dtype,
                axes=[classes if str(axis) == "classes" else axis for axis in state.axes],
                initial=state.initial,
            )
            for state in self.states
        )
        if self.tempered is not None and "temperature" in model_knobs:
            knobs = tuple(knob for knob in self.knobs if knob.name != "temperature")
            return replace(self, states=states, signal=self.tempered, knobs=knobs, tempered=None)
        return replace(self, states=states)

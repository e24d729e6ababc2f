"""Decide with a policy's own graph on given outputs of the exits, apart from any segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import onnxruntime

from effbert.exporter.models.exit_model import OVERRIDE
from effbert.exporter.policies.policy import Policy
from effbert.exporter.segments import BATCH_INPUTS, attach
from effbert.runtime.bundle.manifest import Axis, to_float

NUMPY = {"float32": np.float32, "int64": np.int64}
IR_VERSION = 10
TRIALS = 3

KnobValues = Mapping[str, float | int]


@dataclass(frozen=True)
class Watched:
    """What a policy sees of some rows: float32 [exits, batch, ...] by name, and the inputs.

    `override_logits` is [batch, classes]: watched at the last exit instead of its logits, and the
    answer of rows that fire there.
    """

    outputs: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)

    def shifted(self, by: float) -> Watched:
        """Return the same with every extra output a little larger, as rounding might make it."""
        outputs = {
            name: value if name in ("logits", OVERRIDE) else (value + by).astype(np.float32)
            for name, value in self.outputs.items()
        }
        return Watched(outputs, self.inputs)


class PolicyOracle:
    """Runs signal, comparison, states and answer of a policy over the outputs of every exit."""

    def __init__(self, policy: Policy, axes: Sequence[Axis], opset: int) -> None:
        """Build the policy's graph for logits of these axes."""
        self.policy = policy
        shapes = {"logits": axes} | {name: ["batch"] for name in policy.needs}
        graph = ir.Graph([], [], nodes=[], opset_imports={"": opset}, name="policy")
        for name, shape in shapes.items():
            graph.inputs.append(_float(f"exit_{name}", shape))
            output = _float(name, shape)
            graph.append(ir.Node("", "Identity", [graph.inputs[-1]], outputs=[output]))
            graph.outputs.append(output)
        model = ir.Model(graph, ir_version=IR_VERSION)
        self._carries = attach(model, policy, last=False, extras=tuple(policy.needs))
        self._inputs = [value.name for value in graph.inputs]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        data = ir.to_proto(model).SerializeToString()
        self._session = onnxruntime.InferenceSession(data, options)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def decide(self, watched: Watched, knobs: KnobValues) -> tuple[np.ndarray, np.ndarray]:
        """Let every row leave at the first exit that fires, or at the last.

        Returns:
            The 0-based exit of each row, int64 [batch], and the answers, float32 [batch, ...].
        """
        logits, override = watched.outputs["logits"], self._override(watched)
        last = len(logits) - 1
        left = np.full(logits.shape[1], last)
        answers = logits[last].copy()
        for index, (_, fired, answer) in enumerate(self._steps(watched, knobs)):
            if index < last:
                leaves = fired & (left == last)
                left[leaves] = index
                answers[leaves] = answer[leaves]
            elif override is not None:
                replaced = fired & (left == last)
                answers[replaced] = override[replaced]
            else:
                answers[left == last] = answer[left == last]
        return left, answers

    def answers(self, watched: Watched) -> np.ndarray:
        """Return what every exit answers where nothing leaves, float32 [exits, batch, ...]."""
        if self.policy.answer is None:
            return watched.outputs["logits"]
        never = {knob.name: to_float(knob.never) for knob in self.policy.knobs}
        return np.stack([answer for _, _, answer in self._steps(watched, never)])

    def trials(self, rows: Sequence[Watched]) -> list[dict[str, float | int]]:
        """Choose knob values that spread the rows over the exits."""
        never = {knob.name: to_float(knob.never) for knob in self.policy.knobs}
        signals = np.concatenate([s for row in rows for s, _, _ in self._steps(row, never)])
        moved = [np.abs(np.diff(row.outputs["logits"], axis=0)).ravel() for row in rows]
        steps = np.concatenate([*moved, np.zeros(1)])
        trials = []
        for trial in range(1, TRIALS + 1):
            values: dict[str, float | int] = {}
            for knob in self.policy.knobs:
                if knob.dtype == "int64":
                    values[knob.name] = int(
                        np.clip(trial, to_float(knob.minimum), to_float(knob.maximum))
                    )
                elif knob.name in ("threshold", "regression_threshold"):
                    scale = signals if knob.name == "threshold" else steps
                    value = _between(scale, trial / (TRIALS + 1))
                    values[knob.name] = float(
                        np.float32(np.clip(value, to_float(knob.minimum), to_float(knob.maximum)))
                    )
                else:
                    values[knob.name] = _usual(knob.default)
            trials.append(values)
        return trials

    def _override(self, watched: Watched) -> np.ndarray | None:
        return watched.outputs.get(OVERRIDE) if self.policy.answer is None else None

    def _steps(
        self, watched: Watched, knobs: KnobValues
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield signal, fired rows and answer of each exit, nothing leaving."""
        logits, override = watched.outputs["logits"], self._override(watched)
        feeds: dict[str, np.ndarray] = {}
        for state in self.policy.states:
            shape = [logits.shape[1], *(int(extent) for extent in state.axes[1:])]
            feeds[state.name] = np.full(shape, to_float(state.initial)).astype(state.dtype)
        for knob in self.policy.knobs:
            feeds[knob.name] = np.array(knobs[knob.name], NUMPY[knob.dtype])
        feeds |= {name: watched.inputs[name] for name in BATCH_INPUTS if name in watched.inputs}
        for index in range(len(logits)):
            at_last = override is not None and index == len(logits) - 1
            seen = {name: watched.outputs[name][index] for name in ("logits", *self.policy.needs)}
            seen |= {"logits": override} if at_last else {}
            for name, value in seen.items():
                feeds[f"exit_{name}"] = np.ascontiguousarray(value, np.float32)
            values = self._session.run(None, {name: feeds[name] for name in self._inputs})
            out = dict(zip(self._outputs, values, strict=True))
            feeds |= {name: out[output] for name, output in self._carries.items()}
            yield out["signal"], out["exit"], out["logits"]


def _between(values: np.ndarray, share: float) -> float:
    """Return a number above a share of the finite values: between two, as rounding decides ties."""
    finite = np.unique(values[np.isfinite(values)].astype(np.float64))  # entropies may be NaN
    if len(finite) < 2:
        return float(finite.sum())
    index = int(share * (len(finite) - 1))
    return float(finite[index : index + 2].mean())


def _usual(default: object) -> float:
    """Return a knob's default; of several the first."""
    return float(default[0] if isinstance(default, list) else default)  # type: ignore[arg-type]


def _float(name: str, axes: Sequence[Axis]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(axes))

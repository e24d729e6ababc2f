"""Decide with a policy's own graph on given logits, apart from any segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from effbert.exporter.policies.policy import Policy
from effbert.exporter.segments import attach
from effbert.runtime.engines import open_engine
from effbert.runtime.manifest import number

NUMPY = {"float32": np.float32, "int64": np.int64}
IR_VERSION = 10
TRIALS = 3


class PolicyOracle:
    """Runs signal, comparison and states of a policy over the logits of every exit."""

    def __init__(self, policy: Policy, classes: int, opset: int) -> None:
        """Build the policy's graph for logits [batch, classes]."""
        self._policy = policy
        graph = ir.Graph(
            [_logits("x", classes)], [], nodes=[], opset_imports={"": opset}, name="policy"
        )
        node = ir.Node("", "Identity", [graph.inputs[0]], outputs=[_logits("logits", classes)])
        graph.append(node)
        graph.outputs.append(node.outputs[0])
        model = ir.Model(graph, ir_version=IR_VERSION)
        self._carries = attach(model, policy, last=False)
        self._inputs = [value.name for value in graph.inputs]
        data = ir.to_proto(model).SerializeToString()
        self._runnable = open_engine("onnxruntime", 1).load("policy.onnx", data, None)

    def decide(
        self,
        logits: np.ndarray,
        knobs: Mapping[str, float | int],
        override: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Let every row leave at the first exit that fires, or at the last.

        Args:
            logits: float32 [exits, batch, classes].
            knobs: one value a knob.
            override: float32 [batch, classes]; watched at the last exit instead of its logits, and
                the answer of rows that fire there.

        Returns:
            The 0-based exit of each row, int64 [batch], and the answers, float32 [batch, classes].
        """
        last = len(logits) - 1
        left = np.full(logits.shape[1], last)
        answers = logits[last].copy()
        watched = logits if override is None else np.concatenate([logits[:-1], override[None]])
        for index, (_, fired) in enumerate(self._steps(watched, knobs)):
            if index < last:
                leaves = fired & (left == last)
                left[leaves] = index
                answers[leaves] = logits[index][leaves]
            elif override is not None:
                replaced = fired & (left == last)
                answers[replaced] = override[replaced]
        return left, answers

    def trials(self, logits: np.ndarray) -> list[dict[str, float | int]]:
        """Choose knob values that spread the rows of logits [exits, batch, classes] over exits."""
        defaults = {knob.name: number(knob.default) for knob in self._policy.knobs}
        signals = np.stack([signal for signal, _ in self._steps(logits, defaults)])
        steps = np.abs(np.diff(logits, axis=0)) if len(logits) > 1 else np.zeros(1)
        trials = []
        for trial in range(1, TRIALS + 1):
            values: dict[str, float | int] = {}
            for knob in self._policy.knobs:
                if knob.dtype == "int64":
                    values[knob.name] = trial
                else:
                    scale = signals if knob.name == "threshold" else steps
                    finite = scale[np.isfinite(scale)]  # entropies may be NaN or -inf
                    value = float(np.quantile(finite, trial / (TRIALS + 1))) if finite.size else 0.0
                    values[knob.name] = float(
                        np.float32(np.clip(value, number(knob.minimum), number(knob.maximum)))
                    )
            trials.append(values)
        return trials

    def _steps(
        self, logits: np.ndarray, knobs: Mapping[str, float | int]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield signal and fired rows of each exit, nothing leaving."""
        rows = logits.shape[1]
        feeds = {
            state.name: np.full(rows, number(state.initial), NUMPY[state.dtype])
            for state in self._policy.states
        }
        for knob in self._policy.knobs:
            feeds[knob.name] = np.array(knobs[knob.name], NUMPY[knob.dtype])
        for values in logits:
            feeds["x"] = np.ascontiguousarray(values, np.float32)
            out = self._runnable.run({name: feeds[name] for name in self._inputs})
            feeds |= {name: out[output] for name, output in self._carries.items()}
            yield out["signal"], out["exit"]


def _logits(name: str, classes: int) -> ir.Value:
    return ir.Value(
        name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", classes])
    )

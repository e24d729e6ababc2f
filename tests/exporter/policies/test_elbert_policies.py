"""ELBERT's rules on the policy graphs themselves, against the loop on hand-made logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from effbert.exporter.policies import POLICIES
from effbert.exporter.segments import attach
from matrices import slow_but
from systems.elbert_reference import closeness, elbert_rule

RULES = ("entropy", "bias-1", "bias-2", "bias-3", "logits")
WINDOWED = RULES[1:4]


def build(rule: str) -> onnxruntime.InferenceSession:
    """A segment that is nothing but the policy behind given logits."""
    scores = ir.Value(
        name="scores", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", 2])
    )
    node = ir.Node("", "Identity", [scores], num_outputs=1)
    logits = node.outputs[0]
    logits.name, logits.type, logits.shape = "logits", scores.type, scores.shape
    graph = ir.Graph([scores], [logits], nodes=[node], opset_imports={"": 20}, name="policy")
    model = ir.Model(graph, ir_version=10)
    attach(model, POLICIES[f"elbert-{rule}"], last=False)
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())


def fired(rule: str, exits: np.ndarray, **knobs: float) -> np.ndarray:
    """Whether a row would leave at an exit, [exits, rows], for logits [exits, rows, labels]."""
    session = build(rule)
    policy = POLICIES[f"elbert-{rule}"]
    feeds = {knob.name: np.array(float(knob.default), knob.dtype) for knob in policy.knobs}
    feeds |= {name: np.array(value, feeds[name].dtype) for name, value in knobs.items()}
    for state in policy.states:
        shape = [exits.shape[1], *state.axes[1:]]
        feeds[state.name] = np.full(shape, state.initial, state.dtype)
    names = [output.name for output in session.get_outputs()]
    leaves = []
    for logits in exits:
        out = dict(zip(names, session.run(names, {**feeds, "scores": logits}), strict=True))
        leaves.append(out["exit"])
        feeds |= {state.name: out[f"{state.name}_out"] for state in policy.states}
    return np.array(leaves)


def exit_numbers(rule: str, exits: np.ndarray, **knobs: float) -> list[int]:
    """The exit at which each row leaves, from 1; the last at the latest."""
    leaves = fired(rule, exits, **knobs)
    leaves[-1] = True
    return (leaves.argmax(axis=0) + 1).tolist()


def logits_of(first: Sequence[float]) -> np.ndarray:
    """Logits [exits, 1, 2] whose softmax gives class 0 these probabilities."""
    p = np.array(first, np.float64)
    return np.log(np.stack([p, 1 - p], axis=-1))[:, None].astype(np.float32)


@pytest.mark.parametrize(
    "rule, exit_number, knobs",
    [("bias-1", 3, {}), ("bias-2", 5, {}), ("bias-3", 3, {"range": 0.1})],
)
def test_the_three_windows_disagree_where_the_paper_says(
    rule: str, exit_number: int, knobs: dict[str, float]
):
    exits = logits_of([0.7, 0.7, 0.65, 0.66, 0.8])
    assert exit_numbers(rule, exits, window=3, margin=0.1, **knobs) == [exit_number]


@pytest.mark.parametrize("rule", slow_but(RULES, "bias-2"))
def test_random_exits_leave_where_the_loop_says(rule: str):
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(12, 100, 2)) * rng.uniform(0.05, 1.0, (1, 100, 1))
    exits = steps.cumsum(axis=0).astype(np.float32)
    rows = [[*torch.from_numpy(exits[:, row])] for row in range(exits.shape[1])]
    windows = (0, 1, 2, 3, 5, 12, 13, 65) if rule in WINDOWED else (None,)
    met = set()
    for window, threshold, margin in product(windows, (-np.inf, 0.3, 0.8), (0.0, 0.1, 0.3)):
        knobs = {"threshold": float(threshold)}
        if rule in WINDOWED:
            knobs |= {"window": window, "margin": margin}
        if rule == "bias-3":
            knobs["range"] = 0.05 + margin
        found = exit_numbers(rule, exits, **knobs)
        for row, number in zip(rows, found, strict=True):
            if closeness(row, rule, **knobs) > 1e-5:
                assert number == elbert_rule(row, rule, **knobs).exit_number, knobs
                met.add(number)
    assert met == set(range(1, 13))


@pytest.mark.parametrize("rule", RULES)
def test_default_knobs_never_fire(rule: str):
    exits = np.random.default_rng(1).normal(size=(64, 5, 2)).astype(np.float32) * 20
    assert not fired(rule, exits).any()


@pytest.mark.parametrize("rule", WINDOWED)
def test_the_window_is_full_at_its_own_length_at_the_earliest(rule: str):
    leaves = fired(rule, logits_of([0.9] * 64), window=64, margin=0.2, **ranged(rule, 0.0))
    assert leaves[:, 0].tolist() == [False] * 63 + [True]


@pytest.mark.parametrize("rule", WINDOWED)
def test_the_window_moves_on(rule: str):
    leaves = fired(rule, logits_of([0.9, 0.1, 0.1, 0.1]), window=3, **ranged(rule, 0.5))
    assert leaves[:, 0].tolist() == [False, False, False, True]


@pytest.mark.parametrize("rule", WINDOWED)
def test_a_probability_on_the_margin_is_not_outside_it(rule: str):
    exits = np.zeros((2, 1, 2), np.float32)  # p is 1/2 exactly
    assert not fired(rule, exits, window=1, margin=0.0, **ranged(rule, 1.0)).any()


def test_equal_probabilities_count_as_monotone_and_as_no_range():
    exits = logits_of([0.75, 0.75, 0.75])
    assert exit_numbers("bias-2", exits, window=2, margin=0.1) == [2]
    assert exit_numbers("bias-3", exits, window=2, margin=0.1, range=0.0) == [2]


@pytest.mark.parametrize("rule", RULES)
def test_a_signal_on_the_threshold_goes_on(rule: str):
    exits = np.zeros((1, 1, 2), np.float32)
    signal = 0.5 if rule == "logits" else 1.0
    assert not fired(rule, exits, threshold=signal).any()
    assert fired(rule, exits, threshold=np.nextafter(np.float32(signal), 2)).all()


@pytest.mark.parametrize("rule", WINDOWED)
def test_an_entropy_that_is_nan_leaves_the_decision_to_the_window(rule: str):
    exits = np.array([[[60.0, -60.0]]] * 3, np.float32)
    leaves = fired(rule, exits, threshold=np.inf, window=2, **ranged(rule, 0.0))
    assert leaves[:, 0].tolist() == [False, True, True]


def ranged(rule: str, value: float) -> dict[str, float]:
    """The knob that bias-3 needs beside the others."""
    return {"range": value} if rule == "bias-3" else {}

"""Exit policies as the graphs that a segment holds, run by onnxruntime on hand-made logits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from effbert.exporter.policies import POLICIES
from effbert.exporter.segments import attach
from effbert.graph_passes.names import name_after_modules
from exit_rules import ENTROPIES, pabee_rule

LOGITS = [
    [2.0, 0.5],
    [0.0, 0.0],
    [10.0, -10.0],
    [30.0, 0.0],
    [-60.0, -110.0],
    [52.0, -52.0],
    [85.0, 0.0],
    [88.0, 0.0],
    [88.73, 0.0],
    [100.0, 0.0],
    [-120.0, -110.0],
]


def build(policy: str, last: bool = False) -> onnxruntime.InferenceSession:
    """A segment that is nothing but a policy behind given logits."""
    scores = ir.Value(
        name="scores", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", "labels"])
    )
    node = ir.Node("", "Identity", [scores], num_outputs=1)
    logits = node.outputs[0]
    logits.name, logits.type, logits.shape = "logits", scores.type, scores.shape
    graph = ir.Graph([scores], [logits], nodes=[node], opset_imports={"": 20}, name="policy")
    model = ir.Model(graph, ir_version=10)
    attach(model, POLICIES[policy], last=last)
    name_after_modules(model)
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())


def answer(
    session: onnxruntime.InferenceSession, feeds: dict[str, object]
) -> dict[str, np.ndarray]:
    """Run with the feeds that the graph wants."""
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    wanted = {i.name: np.asarray(feeds[i.name], kinds[i.type]) for i in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, wanted), strict=True))


@pytest.mark.parametrize("flavour", ["naive", "exp", "categorical", "safe"])
@pytest.mark.parametrize("threshold", [-math.inf, -1.0, 0.0, 1e-6, 0.3, 0.7, math.inf])
def test_entropies_decide_like_the_authors_code(flavour: str, threshold: float):
    session = build("entropy" if flavour == "safe" else f"entropy-{flavour}")
    expected = np.array([ENTROPIES[flavour](torch.tensor(row)).item() for row in LOGITS])
    if flavour == "categorical":
        expected /= math.log(2)
    found = answer(session, {"scores": LOGITS, "threshold": threshold})
    np.testing.assert_allclose(found["signal"], expected, rtol=1e-3, atol=5e-6)
    with np.errstate(invalid="ignore"):
        clear = np.abs(expected - threshold) > 1e-5
        clear |= ~np.isfinite(expected)
    np.testing.assert_array_equal(found["exit"][clear], (expected < threshold)[clear])
    np.testing.assert_array_equal(found["exit"], found["signal"] < np.float32(threshold))


@pytest.mark.parametrize("flavour", ["naive", "exp", "categorical", "safe"])
def test_entropies_of_many_labels(flavour: str):
    logits = np.random.default_rng(0).normal(0, 3, (50, 7)).astype(np.float32)
    expected = ENTROPIES[flavour](torch.from_numpy(logits)).numpy()
    if flavour == "categorical":
        expected = expected / math.log(7)
    session = build("entropy" if flavour == "safe" else f"entropy-{flavour}")
    found = answer(session, {"scores": logits, "threshold": 0.0})
    np.testing.assert_allclose(found["signal"], expected, atol=4e-6)


def walk(policy: str, exits: np.ndarray, patience: int, limit: float) -> int:
    """Chain one row's exits [exits, labels] by hand: the exit number where it leaves."""
    session = build(policy)
    states = {state.name: [float(state.initial)] for state in POLICIES[policy].states}
    for number, logits in enumerate(exits, start=1):
        if number == len(exits):
            return number
        feeds = {"scores": logits[None], "threshold": patience, "regression_threshold": limit}
        found = answer(session, {**feeds, **states})
        if found["exit"][0]:
            return number
        states = {name: found[f"{name}_out"] for name in states}
    return number


@pytest.mark.parametrize(
    "winners, patience, exit_number",
    [
        ((0, 0, 1, 1, 1), 2, 5),
        ((0, 0, 1, 1, 1), 1, 2),
        ((0, 0, 0, 0, 0), 3, 4),
        ((0, 1, 0, 1, 0), 1, 5),
        ((0, 0, 0, 0, 0), 0, 5),
        ((0, 0, 0, 0, 0), 9, 5),
    ],
)
def test_patience_counts_agreements_in_a_row(
    winners: Sequence[int], patience: int, exit_number: int
):
    exits = np.eye(3, dtype=np.float32)[list(winners)]
    assert walk("patience", exits, patience, 0.0) == exit_number


def test_patience_breaks_ties_towards_the_first_label():
    exits = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert walk("patience", exits, 1, 0.0) == 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labels", [1, 3])
def test_patience_agrees_with_the_loop_on_random_exits(seed: int, labels: int):
    rng = np.random.default_rng(seed)
    policy = "patience-regression" if labels == 1 else "patience"
    exits = rng.normal(size=(8, labels)).astype(np.float32)
    for patience in range(4):
        for limit in (0.0, 0.7) if labels == 1 else (0.0,):
            expected = pabee_rule([*torch.from_numpy(exits)], patience, limit).exit_number
            assert walk(policy, exits, patience, limit) == expected


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_last_segment_lets_everything_leave(policy: str):
    labels = 1 if policy == "patience-regression" else 2
    session = build(policy, last=True)
    states = {state.name: [0.0] * 3 for state in POLICIES[policy].states}
    scores = np.array([[0.0] * labels, [math.nan] * labels, [300.0] * labels])
    found = answer(session, {"scores": scores, **states, "regression_threshold": 0.0})
    assert found["exit"].all()
    assert found["signal"].shape == (3,)

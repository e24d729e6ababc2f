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
from effbert.exporter.verify.oracle import PolicyOracle, Watched
from effbert.graph_passes.module_names import name_after_modules
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


CLASSIFY = [
    name
    for name, policy in sorted(POLICIES.items())
    if {"single-label", "regression"} & {*policy.problems}
]


def build(policy: str, last: bool = False, labels: int = 2) -> onnxruntime.InferenceSession:
    """A segment that is nothing but a policy behind given logits and extra outputs."""
    rule = POLICIES[policy].fitted(labels, ())
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 20}, name="policy")
    shapes = {"logits": ["batch", "labels"]} | {name: ["batch"] for name in rule.needs}
    for name, shape in shapes.items():
        given = "scores" if name == "logits" else f"given_{name}"
        value = ir.Value(name=given, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
        node = ir.Node("", "Identity", [value], num_outputs=1)
        output = node.outputs[0]
        output.name, output.type, output.shape = name, value.type, value.shape
        graph.inputs.append(value)
        graph.append(node)
        graph.outputs.append(output)
    model = ir.Model(graph, ir_version=10)
    attach(model, rule, last=last, extras=rule.needs)
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


def start(policy: str, rows: int, labels: int) -> dict[str, object]:
    """States before the first exit, and knobs at their defaults."""
    rule = POLICIES[policy].fitted(labels, ())
    states = {
        state.name: np.full([rows, *state.axes[1:]], float(state.initial)) for state in rule.states
    }
    return states | {knob.name: float(knob.default) for knob in rule.knobs}


@pytest.mark.parametrize("policy", CLASSIFY)
def test_the_last_segment_lets_everything_leave(policy: str):
    labels = 1 if policy == "patience-regression" else 2
    session = build(policy, last=True, labels=labels)
    scores = np.array([[0.0] * labels, [math.nan] * labels, [300.0] * labels])
    extras = {f"given_{name}": [0.0, math.nan, 1.0] for name in POLICIES[policy].needs}
    found = answer(session, {"scores": scores, **extras, **start(policy, 3, labels)})
    assert found["exit"].all()
    assert found["signal"].shape == (3,)


@pytest.mark.parametrize("policy", CLASSIFY)
def test_default_knobs_never_stop_a_row(policy: str):
    labels = 1 if policy == "patience-regression" else 2
    session = build(policy, labels=labels)
    scores = np.random.default_rng(0).normal(0, 30, (50, labels))
    scores[0] = 0
    extras = {f"given_{name}": scores[:, 0] for name in POLICIES[policy].needs}
    found = answer(session, {"scores": scores, **extras, **start(policy, 50, labels)})
    unsure = np.isnan(found["signal"])
    assert not found["exit"][~unsure].any()
    # Where it is NaN the script of FastBERT leaves, whatever the speed.
    assert (found["exit"][unsure] == (policy == "entropy-fastbert")).all()


@pytest.mark.parametrize(
    "policy, temperature",
    [("confidence", 0.5), ("confidence", 1.0), ("confidence", 3.0), ("confidence-above", 1.0)],
)
def test_confidence_stops_at_or_above_the_threshold(policy: str, temperature: float):
    reaches = {"confidence": np.greater_equal, "confidence-above": np.greater}[policy]
    session = build(policy, labels=3)
    logits = np.random.default_rng(1).normal(0, 2, (40, 3)).astype(np.float32)
    expected = torch.softmax(torch.from_numpy(logits) / temperature, -1).amax(-1).numpy()
    found = answer(session, {"scores": logits, "threshold": 2, "temperature": temperature})
    np.testing.assert_allclose(found["signal"], expected, atol=1e-6)
    limit = found["signal"][7]  # met exactly by one row
    again = answer(session, {"scores": logits, "threshold": limit, "temperature": temperature})
    np.testing.assert_array_equal(again["exit"], reaches(found["signal"], limit))
    assert again["exit"][7] == (policy == "confidence")


def test_confidence_of_nan_goes_on():
    found = answer(
        build("confidence"), {"scores": [[math.nan, 0.0]], "threshold": 0, "temperature": 1}
    )
    assert not found["exit"].any()


def test_margin_is_the_lead_of_the_best_label():
    logits = np.random.default_rng(1).normal(0, 2, (40, 5)).astype(np.float32)
    best = torch.softmax(torch.from_numpy(logits), -1).topk(2).values.numpy()
    found = answer(build("margin", labels=5), {"scores": logits, "threshold": 0.4})
    np.testing.assert_allclose(found["signal"], best[:, 0] - best[:, 1], atol=1e-6)
    np.testing.assert_array_equal(found["exit"], found["signal"] >= np.float32(0.4))


def test_learned_exits_follow_their_own_score():
    feeds = {"scores": np.zeros((4, 2)), "given_exit_score": [0.1, 0.5, 0.7, math.nan]}
    found = answer(build("learned"), {**feeds, "threshold": 0.5})
    assert found["exit"].tolist() == [True, False, False, False]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("threshold", [0.7, 1.2, 2.0, 3.0])
def test_votes_decide_and_answer(exponent: float, threshold: float):
    logits = np.random.default_rng(3).normal(size=(6, 1, 3)).astype(np.float32)
    session, feeds = build("vote", labels=3), start("vote", 1, 3)
    votes = [0, 0, 0]
    for count, scores in enumerate(logits, start=1):
        votes[int(scores.argmax())] += 1
        feeds |= {"scores": scores, "threshold": threshold, "vote_exponent": exponent}
        found = answer(session, feeds)
        strength = max(votes) / count**exponent
        assert found["signal"][0] == pytest.approx(strength, abs=1e-6)
        assert found["exit"][0] == (found["signal"][0] >= np.float32(threshold))
        share = torch.softmax(torch.from_numpy(found["logits"][0]), -1)
        np.testing.assert_allclose(share, np.array(votes) / count, atol=1e-6)
        feeds |= {name: found[f"{name}_out"] for name in ("votes", "voters")}


@pytest.mark.parametrize("rows", [2, 5, 17])
def test_verification_never_puts_a_threshold_on_a_value_that_rounding_moves(rows: int):
    oracle = PolicyOracle(POLICIES["patience-regression"].fitted(1, ()), ["batch", 1], 20)
    random = np.random.default_rng(rows)
    watched = [
        Watched({"logits": random.normal(size=(5, 1, 1)).astype(np.float32)}) for _ in range(rows)
    ]
    steps = np.concatenate([np.abs(np.diff(w.outputs["logits"], axis=0)).ravel() for w in watched])
    for knobs in oracle.trials(watched):
        assert np.abs(steps - knobs["regression_threshold"]).min() > 1e-6
        assert steps.min() < knobs["regression_threshold"] < steps.max()


@pytest.mark.parametrize("policy", ["entropy", "patience", "vote"])
def test_outputs_are_not_copied(policy: str):
    rule = POLICIES[policy].fitted(2, ())
    logits = ir.Value(
        name="logits", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", 2])
    )
    scores = ir.Value(name="scores", type=logits.type, shape=logits.shape)
    node = ir.Node("", "Tanh", [scores], outputs=[logits])
    graph = ir.Graph([scores], [logits], nodes=[node], opset_imports={"": 20}, name="policy")
    model = ir.Model(graph, ir_version=10)
    attach(model, rule, last=False)
    assert "Identity" not in {each.op_type for each in graph}
    names = {value.name for value in graph.outputs}
    assert {"logits", "signal", "exit"} <= names
    assert {f"{state.name}_out" for state in rule.states} <= names

"""Exported bundles decide and answer the same with every engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import write_deebert, write_pabee
from effbert.exporter import export
from effbert.runtime import Session
from effbert.runtime.engines.table import installed_engines
from exit_checks import LOGITS_ATOL, NEAR_THRESHOLD, batch, pad_id
from systems.sentee_checkpoint import write_sentee
from vocabularies import random_rows

LAYERS = 3
OTHERS = [name for name in installed_engines() if name != "onnxruntime"]
ROWS = list(random_rows("bert", 60, seed=5))
Case = tuple[Callable[..., Path], dict[str, Any], dict[str, Any]]  # checkpoint, export, knob values

# Checkpoints of the contract suite and of SENTEE's tests, whose traces serve here too.
GROUPS: Case = (
    lambda folder: write_pabee(folder, backbone="albert", groups=2, labels=3, layers=4),
    {},
    {"threshold": [0, 1, 2]},
)
# Large enough for its weights to be shared through weights.bin.
SHARED: Case = (
    lambda folder: write_pabee(folder, backbone="albert", hidden=512, layers=4, tokenizer=None),
    {},
    {"threshold": [0, 1, 2]},
)
DROPPED: Case = (
    lambda folder: write_deebert(folder, layers=LAYERS),
    {"length_adaptive": True},
    {"lengths": [[0.8, 0.6, 0.5], [20, 12, 3], [3, 1, 1]]},
)
WORDS: Case = (
    lambda folder: write_sentee(folder, keep_norm_same=0),
    {"policy": "token-entropy"},
    {"threshold": [0.6, 1.0, 1.4]},
)


def rule(policy: str) -> Case:
    return lambda folder: write_deebert(folder, layers=LAYERS), {"policy": policy}, {}


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(GROUPS, id="groups of layers", marks=pytest.mark.slow),
        pytest.param(SHARED, id="shared weights"),
        pytest.param(DROPPED, id="tokens dropped", marks=pytest.mark.slow),
        pytest.param(WORDS, id="words exit", marks=pytest.mark.slow),
        *(
            pytest.param(rule(policy), id=policy, marks=pytest.mark.slow)
            for policy in ("entropy", "confidence", "vote", "elbert-bias-3")
        ),
    ],
)
def test_exits_and_answers_are_those_of_onnxruntime(
    case: Case, engine: str, tmp_path: Path
) -> None:
    write, options, knobs = case
    bundle = tmp_path / "bundle"
    export(write(tmp_path / "checkpoint"), bundle, **options)
    with Session(bundle, threads=1) as usual, Session(bundle, engine, threads=1) as other:
        inputs = rows_of(usual)
        for name, expected in usual.run_exits(inputs).items():
            found = other.run_exits(inputs)[name]
            np.testing.assert_allclose(found, expected, atol=LOGITS_ATOL, rtol=0)
        if not knobs:
            signals = usual.run(inputs).signal
            knobs = {"threshold": np.quantile(signals, [0.1, 0.4, 0.8]).tolist()}
        for name, values in knobs.items():
            layers = [same_decisions(usual, other, inputs, name, value) for value in values]
            assert name == "lengths" or len(set().union(*layers)) > 1


def rows_of(session: Session) -> dict[str, np.ndarray]:
    """Sixty rows; where words are labelled, every token is a word."""
    inputs = batch(ROWS, pad_id(session))
    if "word_map" in {item.name for item in session.bundle.manifest.inputs}:
        places = np.arange(inputs["input_ids"].shape[1])
        inputs["word_map"] = np.where(inputs["attention_mask"] == 1, places, -1)
    return inputs


def same_decisions(
    usual: Session, other: Session, inputs: dict[str, np.ndarray], knob: str, value: Any
) -> set[int]:
    """Compares the layers of all rows, those on the threshold aside; returns the layers met."""
    expected, found = usual.run(inputs, {knob: value}), other.run(inputs, {knob: value})
    clear = np.abs(expected.signal - value) > NEAR_THRESHOLD if np.ndim(value) == 0 else slice(None)
    np.testing.assert_array_equal(found.exit_layer[clear], expected.exit_layer[clear])
    return set(expected.exit_layer.ravel().tolist())

"""The smallest host agrees with Session; exported bundles are compared in test_contract."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import minimal_host
from effbert.runtime import Session
from tiny_bundle import VOCABULARY, build_tiny_bundle

IDS = np.random.default_rng(0).integers(5, len(VOCABULARY), (12, 9))


def test_the_minimal_host_is_minimal():
    source = Path(minimal_host.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in imports for alias in node.names}
    assert names == {"json", "numpy", "onnxruntime"}
    assert len(source.splitlines()) <= 60


@pytest.mark.parametrize(
    "policy, knobs",
    [
        ("entropy", {}),
        ("entropy", {"threshold": 0.7}),
        ("entropy", {"threshold": [0.9, 0.5, 0.0]}),
        ("patience", {}),
        ("patience", {"patience": 1}),
    ],
)
@pytest.mark.parametrize("shared_weights", [False, True])
def test_the_minimal_host_answers_like_the_session(
    policy: str, knobs: dict[str, object], shared_weights: bool, tmp_path: Path
):
    bundle = build_tiny_bundle(tmp_path, policy=policy, shared_weights=shared_weights)
    inputs = {"input_ids": IDS, "attention_mask": (np.arange(9) < 5).astype(int) | (IDS % 3 > 0)}
    ours, theirs = Session(bundle).run(inputs, knobs), minimal_host.run(bundle, inputs, knobs)
    np.testing.assert_array_equal(theirs["exit_index"], ours.exit_index)
    np.testing.assert_array_equal(theirs["exit_layer"], ours.exit_layer)
    np.testing.assert_allclose(theirs["signal"], ours.signal, atol=2e-6)
    np.testing.assert_allclose(theirs["logits"], ours.logits, atol=2e-6)

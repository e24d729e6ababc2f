"""DeeBERT and PABEE in more shapes, policies, exits and opsets than the fast tests can afford."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import write_deebert, write_pabee
from effbert.exporter import export
from effbert.runtime import Session
from exit_checks import (
    LOGITS_ATOL,
    NEAR_THRESHOLD,
    check_decisions,
    check_every_exit,
    clear_rows,
    run,
)
from exit_rules import ENTROPIES, deebert_rule, pabee_rule
from reference import DeeBertReference, PabeeReference
from vocabularies import random_rows

pytestmark = pytest.mark.slow
NEVER = float("-inf")


def knobs_of(session: Session, **wanted: float) -> dict[str, float]:
    """What the bundle can be told; a single exit that always answers has no knobs."""
    return wanted if session.knobs else {}


@pytest.mark.parametrize("layers", [[1, 3, 5], [4]])
def test_chosen_exits_of_deebert(layers: list[int], tmp_path: Path):
    checkpoint = write_deebert(tmp_path / "in", tokenizer=None)
    export(checkpoint, tmp_path / "out", exits=layers)
    session, reference = Session(tmp_path / "out", threads=1), DeeBertReference(checkpoint)
    rows = list(random_rows("bert", 100))
    threshold = float(np.quantile([reference.signals(row) for row in rows], 0.3))
    found = run(session, rows, knobs_of(session, threshold=threshold), (16, 1))
    for i, row in clear_rows(reference, rows, threshold=threshold):
        highways, main = reference.heads(row)
        kept = [highways[layer - 1] for layer in layers]
        # A chain that ends before the last layer answers with its last highway.
        main = main if layers[-1] == 5 else kept[-1]
        expected = deebert_rule(kept, main, threshold, "exp")
        assert found["exit_layer"][i] == layers[expected.exit_number - 1]
        np.testing.assert_allclose(found["logits"][i], expected.logits, atol=LOGITS_ATOL)


@pytest.mark.parametrize("layers", [[2, 4, 6], [1]])
def test_chosen_exits_of_pabee_agree_with_the_chosen_exit_before(layers: list[int], tmp_path: Path):
    checkpoint = write_pabee(tmp_path / "in", tokenizer=None, labels=3)
    export(checkpoint, tmp_path / "out", exits=layers)
    session, reference = Session(tmp_path / "out", threads=1), PabeeReference(checkpoint)
    rows = list(random_rows("bert", 100))
    found = run(session, rows, knobs_of(session, threshold=1), (16, 1))
    for i, row in enumerate(rows):
        kept = [reference.exits(row)[layer - 1] for layer in layers]
        expected = pabee_rule(kept, 1)
        assert found["exit_layer"][i] == layers[expected.exit_number - 1]
        np.testing.assert_allclose(found["logits"][i], expected.logits, atol=LOGITS_ATOL)


@pytest.mark.parametrize("opset", [18, 20, 22])
def test_every_opset(opset: int, tmp_path: Path):
    for write, kind, backbone, knobs in (
        (write_deebert, DeeBertReference, "roberta", {"threshold": 0.5}),
        (write_pabee, PabeeReference, "albert", {"threshold": 1}),
    ):
        folder = tmp_path / backbone
        checkpoint = write(folder / "in", backbone=backbone, layers=2, tokenizer=None)
        export(checkpoint, folder / "out", opset=opset)
        session, reference = Session(folder / "out", threads=1), kind(checkpoint)
        rows = list(random_rows(backbone, 60))
        check_every_exit(session, reference, rows)
        check_decisions(session, reference, rows, knobs, (8, 1))


@pytest.mark.parametrize("policy", ["entropy", "entropy-naive", "entropy-categorical"])
def test_other_policies_than_the_papers(policy: str, tmp_path: Path):
    checkpoint = write_deebert(tmp_path / "in", tokenizer=None, labels=2)
    export(checkpoint, tmp_path / "out", policy=policy, knobs={"threshold": 0.25})
    session, reference = Session(tmp_path / "out", threads=1), DeeBertReference(checkpoint)
    rows = list(random_rows("bert", 100))
    found = run(session, rows, {}, (16, 1))
    flavour = {"entropy": "safe"}.get(policy, policy.removeprefix("entropy-"))
    scale = np.log(2) if flavour == "categorical" else 1.0
    for i, row in enumerate(rows):
        highways, main = reference.heads(row)
        signals = np.array([ENTROPIES[flavour](x).item() for x in highways]) / scale
        if np.abs(signals - 0.25).min() > NEAR_THRESHOLD:
            expected = deebert_rule(highways, main, 0.25 * scale, flavour)
            assert found["exit_layer"][i] == expected.exit_number
    assert len(set(found["exit_layer"])) >= 3


def test_deebert_with_one_label_never_stops_early(tmp_path: Path):
    checkpoint = write_deebert(tmp_path / "in", layout="castorini", labels=1, tokenizer=None)
    report = export(checkpoint, tmp_path / "out")
    assert report.policy.name == "none"
    session, reference = Session(tmp_path / "out"), DeeBertReference(checkpoint)
    rows = list(random_rows("bert", 20))
    found = run(session, rows, {}, (8,))
    assert not session.knobs
    assert (found["exit_layer"] == 5).all()
    for i, row in enumerate(rows):
        expected = reference.exits(row)[-1]
        np.testing.assert_allclose(found["logits"][i], expected, atol=LOGITS_ATOL)

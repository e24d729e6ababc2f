"""CascadeBERT checkpoints, exported and answered as the authors' loop does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import cascadebert, choose_format
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, ExportError
from exit_checks import (
    run,
)
from export_command import run_command, sentence
from systems.cascadebert_checkpoint import write_cascadebert
from systems.cascadebert_reference import CascadeBertReference
from systems.case import ExportedCase
from systems.cases import models_of
from systems.edits import claims, rewrite


@models_of("cascadebert")
def test_the_last_member_answers_at_the_authors_default(model: ExportedCase):
    found = run(model.session, model.rows[:50], {"threshold": 1.0}, (16,))
    assert (found["exit_index"] == len(model.session.exits) - 1).all()


@models_of("cascadebert")
def test_layers_are_summed_over_the_members_that_ran(model: ExportedCase):
    sums = np.cumsum(model.case.options["depths"])
    found = run(model.session, model.rows, {"threshold": model.quantile(0.5)}, (16, 1))
    np.testing.assert_array_equal(found["exit_layer"], sums[found["exit_index"]])
    manifest = model.session.bundle.manifest
    assert [segment.layer for segment in manifest.segments] == sums.tolist()


@models_of("cascadebert")
def test_members_read_the_tokens_and_nothing_of_each_other(model: ExportedCase):
    names = {"input_ids", "attention_mask", "token_type_ids", "threshold"}
    for segment in model.session.bundle.manifest.segments:
        assert {item.name for item in segment.inputs} <= names
        assert not segment.carries


@models_of("cascadebert")
def test_the_user_is_told_how_deep_the_members_are(model: ExportedCase):
    counts = " + ".join(map(str, model.case.options["depths"]))
    assert f"Note: The members run {counts} layers" in model.said


# --- recognition and loading --------------------------------------------------------------------


def load(checkpoint: Path, **options: object):
    return cascadebert.load(open_checkpoint(checkpoint), LoadOptions(**options))


@pytest.mark.parametrize("parallel", ["", "module."])
def test_a_cascade_is_recognised_and_nothing_else(parallel: str, tmp_path: Path):
    checkpoint = write_cascadebert(tmp_path / "checkpoint", depths=(1, 1), noise=True)
    rewrite(checkpoint, lambda tensors: {parallel + k: t for k, t in tensors.items()})
    assert claims(checkpoint) == ["cascadebert"]
    opened = open_checkpoint(checkpoint)
    assert choose_format("auto", opened.name, opened.shapes, opened.config).name == "cascadebert"
    assert not (checkpoint / "pwned").exists()


def test_members_keep_all_their_layers_and_the_user_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    checkpoint = write_cascadebert(tmp_path / "checkpoint", depths=(3, 3))
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle", "--dry-run", "--json")
    report = json.loads(outcome.out)
    assert report["exits"] == [3, 6]
    assert len(report["notes"]) == 1
    assert "3 + 3 layers" in report["notes"][0]


def test_chosen_exits_leave_members_out(tmp_path: Path):
    checkpoint = write_cascadebert(tmp_path / "checkpoint", depths=(1, 2, 3))
    reference = CascadeBertReference(checkpoint)
    model = load(checkpoint, exits=(1, 6))
    assert model.description.layers == (1, 4)
    row = [2, 9, 8, 30, 3]
    with torch.no_grad():
        found = model(torch.tensor([row]), torch.ones(1, 5, dtype=torch.long))
    expected = reference.exits(row)[::2]
    for (_, outputs), logits in zip(found, expected, strict=True):
        torch.testing.assert_close(outputs["logits"][0], logits, atol=1e-5, rtol=0)
    with pytest.raises(ExportError, match=r"no exit after layer 2; it has .* layers 1, 3, 6"):
        load(checkpoint, exits=(2,))


def test_a_regression_runs_to_the_end_and_the_user_is_told(tmp_path: Path):
    checkpoint = write_cascadebert(tmp_path / "checkpoint", depths=(1, 2), labels=1)
    description = load(checkpoint).description
    assert (description.problem, description.policy) == ("regression", "none")
    assert "--exits 3" in description.notes[1]
    alone = load(checkpoint, exits=(3,)).description
    assert (alone.layers, len(alone.notes)) == ((2,), 1)


@pytest.mark.parametrize(
    "missing, named",
    [
        ("cascade_classifiers.1.weight", "cascade_classifiers.1.weight"),
        ("cascade_models.0.pooler.dense.bias", "cascade_models.0.pooler.dense.bias"),
        ("cascade_models.1.embeddings.LayerNorm.weight", "cascade_models.1.*LayerNorm.weight"),
        ("cascade_models.1.encoder.layer.0", "cascade_models.1"),
        ("cascade_models.1.", "cascade_models.2"),
        ("cascade_models.0.encoder", "cascade_models.1"),
    ],
)
def test_what_is_missing_is_named(
    missing: str, named: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    checkpoint = write_cascadebert(tmp_path / "checkpoint", depths=(1, 2, 1))
    rewrite(checkpoint, lambda t: {k: v for k, v in t.items() if not k.startswith(missing)})
    with pytest.raises(CheckpointError, match=named):
        load(checkpoint)
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle")
    assert outcome.code == 2
    assert sentence(outcome)
    assert not (tmp_path / "bundle").exists()


def test_members_without_any_layer_are_refused(tmp_path: Path):
    checkpoint = write_cascadebert(tmp_path / "checkpoint", depths=(1,))
    rewrite(checkpoint, lambda t: {k: v for k, v in t.items() if ".encoder." not in k})
    with pytest.raises(CheckpointError, match="no layers"):
        load(checkpoint)


def test_heads_that_disagree_about_the_classes_are_refused(tmp_path: Path):
    checkpoint = write_cascadebert(tmp_path / "checkpoint", depths=(1, 1))
    wrong = {"cascade_classifiers.0.weight": torch.zeros(2, 32)}
    rewrite(checkpoint, lambda tensors: tensors | wrong)
    with pytest.raises(
        CheckpointError, match=r"cascade_classifiers\.0\.weight has shape \[2, 32\]"
    ):
        load(checkpoint)

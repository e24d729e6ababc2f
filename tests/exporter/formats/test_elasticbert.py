"""ElasticBERT checkpoints, exported and answered as the authors' two loops do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import choose_format, elasticbert
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, ExportError
from export_command import run_command, sentence
from systems.edits import claims, rewrite
from systems.elasticbert_checkpoint import write_elasticbert
from systems.elasticbert_reference import ElasticBertReference
from systems.exported import without

# --- entropy ------------------------------------------------------------------------------------


# --- patience -----------------------------------------------------------------------------------


# --- recognition and loading --------------------------------------------------------------------


def load(checkpoint: Path, **options: object):
    return elasticbert.load(open_checkpoint(checkpoint), LoadOptions(**options))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("parallel", ["", "module."])
def test_elasticbert_is_recognised_and_nothing_else(
    static: bool, pooled: bool, parallel: str, tmp_path: Path
):
    checkpoint = write_elasticbert(
        tmp_path / "checkpoint", layers=2, static=static, pooled=pooled, noise=True
    )
    rewrite(checkpoint, lambda tensors: {parallel + k: t for k, t in tensors.items()})
    assert claims(checkpoint) == ["elasticbert"]
    opened = open_checkpoint(checkpoint)
    chosen = choose_format("auto", opened.name, opened.shapes, opened.config)
    assert chosen.name == "elasticbert"
    assert not (checkpoint / "pwned").exists()


@torch.no_grad()
def test_without_poolers_classifiers_read_the_first_token(tmp_path: Path):
    checkpoint = write_elasticbert(tmp_path / "checkpoint", layers=2, pooled=False)
    model, reference = load(checkpoint), ElasticBertReference(checkpoint)
    row = [2, 9, 8, 30, 3]
    found = model(torch.tensor([row]), torch.ones(1, 5, dtype=torch.long))
    for (_, outputs), expected in zip(found, reference.exits(row), strict=True):
        torch.testing.assert_close(outputs["logits"][0], expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("exits", [1, 2, 3])
def test_fewer_exits_than_layers_follow_the_last_layers(exits: int, tmp_path: Path):
    checkpoint = write_elasticbert(tmp_path / "checkpoint", layers=4, exits=exits)
    model, reference = load(checkpoint), ElasticBertReference(checkpoint)
    assert model.description.layers == (2, 3, 4)[3 - exits :]
    assert model.description.policy == "entropy-exp"
    row = [2, 9, 8, 30, 3]
    found = model(torch.tensor([row]), torch.ones(1, 5, dtype=torch.long))
    for (_, outputs), expected in zip(found, reference.exits(row), strict=True):
        torch.testing.assert_close(outputs["logits"][0], expected, atol=1e-5, rtol=0)


def test_fewer_classifiers_whose_layers_are_unknown_are_refused(tmp_path: Path):
    checkpoint = write_elasticbert(tmp_path / "checkpoint", layers=4, exits=2, pooled=False)
    with pytest.raises(CheckpointError, match="2 classifiers and 0 poolers for 4 layers"):
        load(checkpoint)


def test_an_exit_that_was_not_trained_is_refused(tmp_path: Path):
    checkpoint = write_elasticbert(tmp_path / "checkpoint", layers=4, exits=2)
    assert load(checkpoint, exits=(3,)).description.layers == (3,)
    with pytest.raises(ExportError, match=r"no exit after layer 1; it has .* layers 3, 4"):
        load(checkpoint, exits=(1, 4))


@pytest.mark.parametrize("labels", [1, 3])
def test_a_static_one_has_one_exit_and_says_how_to_get_more(
    labels: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    checkpoint = write_elasticbert(tmp_path / "checkpoint", layers=3, static=True, labels=labels)
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle", "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert (report["exits"], report["policy"], report["knobs"]) == ([3], "none", {})
    assert "num_output_layers" in report["notes"][0]
    assert "position_ids" in report["notes"][-1]


def test_a_policy_on_a_static_one_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    checkpoint = write_elasticbert(tmp_path / "checkpoint", layers=2, static=True)
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle", "--policy", "patience")
    assert outcome.code == 2
    assert "one exit, after layer 2" in sentence(outcome)


def test_a_pre_trained_one_must_be_fine_tuned_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    checkpoint = write_elasticbert(tmp_path / "checkpoint", layers=2, static=True)
    rewrite(checkpoint, without("classifier.weight", "classifier.bias"))
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle")
    assert outcome.code == 2
    assert "fine-tune it" in sentence(outcome)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    "missing, named",
    [
        ("classifiers.1.bias", "classifiers.1.bias"),
        ("elasticbert.encoder.pooler.0.dense.weight", "elasticbert.encoder.pooler.0.dense.weight"),
        ("elasticbert.encoder.layer.1.output.dense.bias", "bert.encoder.layer.1.output.dense.bias"),
    ],
)
def test_a_missing_tensor_is_named(missing: str, named: str, tmp_path: Path):
    checkpoint = write_elasticbert(tmp_path / "checkpoint", layers=2)
    rewrite(checkpoint, without(missing))
    with pytest.raises(CheckpointError, match=named.replace(".", r"\.")):
        load(checkpoint)


def test_a_pooler_of_the_wrong_shape_is_refused(tmp_path: Path):
    checkpoint = write_elasticbert(tmp_path / "checkpoint", layers=2)
    wrong = {"elasticbert.encoder.pooler.1.dense.weight": torch.zeros(32, 31)}
    rewrite(checkpoint, lambda tensors: tensors | wrong)
    with pytest.raises(CheckpointError, match=r"shape \[32, 31\], expected \[32, 32\]"):
        load(checkpoint)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("layers", [0, -1])
def test_a_config_without_layers_is_refused(static: bool, layers: int, tmp_path: Path):
    checkpoint = write_elasticbert(tmp_path / "checkpoint", layers=2, static=static)
    file = checkpoint / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_hidden_layers": layers}))
    with pytest.raises(CheckpointError, match="correct num_hidden_layers"):
        load(checkpoint)

"""ElasticBERT checkpoints, exported and answered as the authors' two loops do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import choose_format, elasticbert
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, ExportError
from exit_checks import (
    check_decisions,
    check_default_knobs,
    check_every_exit,
    check_minimal_host,
    check_row_independence,
)
from export_command import run_command, sentence
from matrices import slow_but
from systems.edits import claims, rewrite
from systems.elasticbert_checkpoint import write_elasticbert
from systems.elasticbert_reference import ElasticBertReference, PatientElasticBertReference
from systems.exported import Exported, exit_layer_at, export_new, inspect, without

NEVER = -math.inf


@pytest.fixture(scope="module")
def entropy(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Four layers of the five that the file holds."""
    folder = tmp_path_factory.mktemp("entropy")
    return export_new(folder, write_elasticbert, ElasticBertReference, stored=5, noise=True)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Exported]:
    """Number of labels -> a checkpoint that stops by patience."""

    @cache
    def make(labels: int) -> Exported:
        folder = tmp_path_factory.mktemp("patience")
        return export_new(
            folder,
            write_elasticbert,
            PatientElasticBertReference,
            policy="auto" if labels == 1 else "patience",
            labels=labels,
        )

    return make


def patience_knobs(labels: int, patience: int) -> dict[str, float]:
    limit = {"regression_threshold": 0.3 * patience} if labels == 1 else {}
    return {"threshold": patience, **limit}


# --- entropy ------------------------------------------------------------------------------------


def test_every_exit_answers_like_the_reference(entropy: Exported):
    check_every_exit(entropy.session, entropy.reference, entropy.rows)


@pytest.mark.parametrize("q", [0.25, 0.4, 0.7])
@pytest.mark.parametrize("sizes", [(1,), (16, 3, 8)], ids=["alone", "batches"])
def test_rows_leave_where_the_loop_says(entropy: Exported, q: float, sizes: tuple[int, ...]):
    knobs = {"threshold": entropy.quantile(q)}
    met = check_decisions(entropy.session, entropy.reference, entropy.rows, knobs, sizes)
    assert len(met) >= 3


def test_every_exit_may_have_its_own_threshold(entropy: Exported):
    thresholds = entropy.quantiles(0.4)
    thresholds[1] = NEVER
    knobs = {"threshold": thresholds}
    met = check_decisions(entropy.session, entropy.reference, entropy.rows, knobs, (16, 1))
    assert met == [1, 3, 4]


def test_an_entropy_at_the_threshold_goes_on(entropy: Exported):
    first = entropy.session.run({"input_ids": [entropy.rows[0]]}, {"threshold": math.inf}).signal[0]
    above = float(np.nextafter(first, np.float32(math.inf)))
    assert [exit_layer_at(entropy, t, NEVER) for t in (float(first), above)] == [4, 1]


def test_default_knobs_never_stop_a_row(entropy: Exported):
    check_default_knobs(entropy.session, entropy.reference, entropy.rows[:50])


def test_rows_do_not_depend_on_each_other(entropy: Exported):
    knobs = {"threshold": entropy.quantile(0.3)}
    check_row_independence(entropy.session, entropy.reference, entropy.rows, knobs)


def test_the_minimal_host_agrees(entropy: Exported):
    check_minimal_host(entropy.session, entropy.rows[:60], {"threshold": entropy.quantiles(0.3)})
    check_minimal_host(entropy.session, entropy.rows[:10], {})


def test_two_paths_are_enough_and_inspect_names_the_system(entropy: Exported):
    assert "ElasticBERT" in entropy.said
    summary = inspect(entropy.bundle)
    assert (summary["source"]["format"], summary["source"]["architecture"]) == (
        "elasticbert",
        "bert",
    )
    assert "ElasticBERT" in summary["source"]["paper"]
    assert summary["policy"]["name"] == "entropy-exp"
    assert [exit_["layer"] for exit_ in summary["exits"]] == [1, 2, 3, 4]
    assert not (entropy.checkpoint / "pwned").exists()


# --- patience -----------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", slow_but([1, 2], 2))
def test_every_patient_exit_answers_like_the_reference(
    patient: Callable[[int], Exported], labels: int
):
    model = patient(labels)
    check_every_exit(model.session, model.reference, model.rows)
    check_default_knobs(model.session, model.reference, model.rows[:50])


@pytest.mark.parametrize("labels", slow_but([1, 2], 2))
@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(1,), (16, 3, 8)], ids=["alone", "batches"])
def test_patience_lets_rows_leave_where_the_loop_says(
    patient: Callable[[int], Exported], labels: int, patience: int, sizes: tuple[int, ...]
):
    model, knobs = patient(labels), patience_knobs(labels, patience)
    met = check_decisions(model.session, model.reference, model.rows, knobs, sizes)
    assert met == [*range(patience + 1, 5)]


@pytest.mark.parametrize("labels", slow_but([1, 2], 2))
def test_patient_rows_do_not_depend_on_each_other(patient: Callable[[int], Exported], labels: int):
    model, knobs = patient(labels), patience_knobs(labels, 1)
    check_row_independence(model.session, model.reference, model.rows, knobs)
    check_minimal_host(model.session, model.rows[:60], knobs)
    name = "patience-regression" if labels == 1 else "patience"
    assert model.session.bundle.manifest.policy.name == name


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
    assert len(report["notes"]) == 1
    assert "num_output_layers" in report["notes"][0]


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

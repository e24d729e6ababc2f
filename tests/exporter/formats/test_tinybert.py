"""TinyBERT: the ReLU of the authors' task models, and when there is none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import plain, tinybert
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, ExportError
from families import check_minimal_host
from systems.compressed_checkpoint import write_tinybert
from systems.compressed_reference import Encoder, check_answers, torch_difference
from systems.edits import Tensors, claims, rewrite
from systems.exported import Exported, export_new
from vocabularies import random_rows

reference = partial(Encoder, pooler="relu of tanh")
ROWS = list(random_rows("bert", 20))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_new(tmp_path_factory.mktemp("tinybert"), write_tinybert, reference)


def load(checkpoint: Path, **options: Any):
    return tinybert.load(open_checkpoint(checkpoint), LoadOptions(**options))


def without_fits(tensors: Tensors) -> Tensors:
    return {name: t for name, t in tensors.items() if not name.startswith("fit_dense")}


def without_classifier(tensors: Tensors) -> Tensors:
    return {name: t for name, t in tensors.items() if not name.startswith("classifier")}


def test_task_models_classify_behind_a_relu(model: Exported):
    check_answers(model.session, model.reference, model.rows)


def test_the_relu_matters(model: Exported):
    found = load(model.checkpoint)
    assert torch_difference(found, model.reference, ROWS) <= 1e-4
    assert torch_difference(found, Encoder(model.checkpoint), ROWS) > 0.1


def test_the_minimal_host_agrees(model: Exported):
    check_minimal_host(model.session)


def test_the_manifest_tells_where_the_bundle_comes_from(model: Exported):
    manifest = model.session.bundle.manifest
    assert manifest.source.format == "tinybert"
    assert "TinyBERT" in manifest.source.paper
    assert manifest.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert [segment.layer for segment in manifest.segments] == [3]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("noise", [False, True])
def test_both_layouts_are_recognised_by_nothing_else(tmp_path: Path, version: int, noise: bool):
    checkpoint = write_tinybert(tmp_path / "c", version=version, noise=noise)
    assert claims(checkpoint) == ["tinybert"]
    assert torch_difference(load(checkpoint), reference(checkpoint), ROWS[:3]) <= 1e-4
    assert not (checkpoint / "pwned").exists()


def test_a_general_model_tuned_with_transformers_is_plain(tmp_path: Path):
    checkpoint = write_tinybert(tmp_path / "c", model_type="bert", num_labels=3)
    rewrite(checkpoint, without_fits, architectures=["BertForSequenceClassification"])
    assert claims(checkpoint) == []
    found = plain.load(open_checkpoint(checkpoint), LoadOptions())
    assert torch_difference(found, Encoder(checkpoint), ROWS) <= 1e-4


def test_the_relu_can_be_left_out_by_naming_the_format(tmp_path: Path):
    names = ["BertForSequenceClassification"]
    settings = {"model_type": "bert", "num_labels": 3, "architectures": names}
    checkpoint = write_tinybert(tmp_path / "c", **settings)
    found = plain.load(open_checkpoint(checkpoint), LoadOptions())
    assert torch_difference(found, Encoder(checkpoint), ROWS) <= 1e-4


def test_a_general_model_without_a_task_is_refused_with_the_next_step(tmp_path: Path):
    checkpoint = write_tinybert(tmp_path / "c", version=1, model_type="bert")
    rewrite(checkpoint, without_classifier, architectures=["BertForSequenceClassification"])
    with pytest.raises(CheckpointError, match="fine-tune the model for this task first"):
        export(checkpoint, tmp_path / "bundle")


@pytest.mark.parametrize(
    "labels, config, problem, names",
    [
        (1, {}, "regression", ("LABEL_0",)),
        (2, {}, "single-label", ("LABEL_0", "LABEL_1")),
        (2, {"id2label": {"0": "bad", "1": "good"}}, "single-label", ("bad", "good")),
        (3, {"id2label": {"0": "bad", "1": "good"}}, "single-label", ("LABEL_0", "LABEL_1")),
        (2, {"architectures": ["BertForMaskedLM"]}, "single-label", ("LABEL_0", "LABEL_1")),
    ],
)
def test_classes_are_those_of_the_classifier(
    tmp_path: Path, labels: int, config: dict[str, Any], problem: str, names: tuple[str, ...]
):
    described = load(write_tinybert(tmp_path / "c", labels=labels, **config)).description
    assert described.problem == problem
    assert len(described.labels) == labels
    assert described.labels[: len(names)] == names


def test_tensors_and_tasks_that_do_not_fit_are_refused(tmp_path: Path):
    checkpoint = write_tinybert(tmp_path / "c")
    with pytest.raises(ExportError, match="TinyBERT's task models classify texts"):
        load(checkpoint, task="token-classification")
    scales = {"bert.encoder.layer.0.output.dense.act_clip_val": torch.zeros(2)}
    rewrite(checkpoint, lambda tensors: tensors | scales)
    with pytest.raises(CheckpointError, match=r"no place for .*act_clip_val"):
        export(checkpoint, tmp_path / "bundle", dry_run=True)

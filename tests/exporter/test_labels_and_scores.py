"""Names and numbers of classes, and what becomes of logits, as the checkpoint's files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from bundle_edits import edit_manifest
from effbert.exporter import export
from effbert.exporter.pipeline import Report
from effbert.runtime import Session
from effbert.runtime.errors import CheckpointError, InputError
from families import write_family
from tiny_bundle import build_tiny_bundle
from vocabularies import vocabulary, write_tokenizer

TASK = "text-classification"
SIGMOID = "torch.nn.modules.activation.Sigmoid"


def write(folder: Path, classes: int = 3, **config: Any) -> Path:
    torch.manual_seed(classes)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    built = transformers.BertConfig(
        vocab_size=len(vocabulary("bert")), num_hidden_layers=1, num_labels=classes, **sizes
    )
    transformers.BertForSequenceClassification(built).save_pretrained(folder)
    write_tokenizer(folder, "bert", "fast")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def plan(folder: Path, **options: Any) -> Report:
    return export(folder, folder.parent / "out", dry_run=True, **options)


@pytest.mark.parametrize(
    "config, labels, said",
    [
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, ("a", "b", "c"), None),
        ({"id2label": {"0": "a", "1": "b", "2": "a"}}, ("a", "b", "a"), "one name (a)"),
        ({"id2label": {"1": "a", "2": "b", "3": "c"}}, ("LABEL_0", "a", "b"), "have (3)"),
        ({"id2label": {"0": "a", "2": "c", "7": "h"}}, ("a", "LABEL_1", "c"), "have (7)"),
        ({"id2label": None, "label2id": {"a": 0, "b": 1, "c": 2}}, ("a", "b", "c"), None),
        (
            {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 1, "b": 0, "c": 2}},
            ("a", "b", "c"),
            "contradict each other",
        ),
    ],
    ids=str,
)
def test_names_stay_with_their_ids(
    tmp_path: Path, config: dict[str, Any], labels: tuple[str, ...], said: str | None
):
    folder = write(tmp_path / "c", **config)
    if config["id2label"] is None:
        fields = json.loads((folder / "config.json").read_text())
        del fields["id2label"]
        (folder / "config.json").write_text(json.dumps(fields))
    report = plan(folder)
    assert report.description.labels == labels
    assert any(said in note for note in report.notes) if said else not report.notes


@pytest.mark.parametrize(
    "classes, config, problem",
    [
        (3, {}, "single-label"),
        (3, {"problem_type": "multi_label_classification"}, "multi-label"),
        (3, {"problem_type": "regression"}, "regression"),
        (1, {"problem_type": "regression"}, "regression"),
        (1, {"problem_type": "multi_label_classification"}, "multi-label"),
    ],
)
def test_the_problem_is_what_config_json_says(
    tmp_path: Path, classes: int, config: dict[str, Any], problem: str
):
    report = plan(write(tmp_path / "c", classes, **config))
    assert report.description.problem == problem
    assert not report.notes


def test_one_class_that_nothing_explains_is_reported(tmp_path: Path):
    report = plan(write(tmp_path / "c", 1))
    assert report.description.problem == "regression"
    assert "--activation sigmoid" in report.notes[0]


@pytest.mark.parametrize(
    "config, beside, activation",
    [
        ({"sbert_ce_default_activation_function": SIGMOID}, {}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": SIGMOID, "version": "5"}}, {}, "sigmoid"),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            {},
            "identity",
        ),
        ({}, {"activation_fn": SIGMOID}, "sigmoid"),
        ({"function_to_apply": "softmax"}, {}, "softmax"),
        ({"function_to_apply": "none"}, {}, "identity"),
        ({}, {}, None),
    ],
)
def test_the_activation_is_the_one_that_is_named(
    tmp_path: Path, config: dict[str, Any], beside: dict[str, Any], activation: str | None
):
    folder = write(tmp_path / "c", **config)
    (folder / "config_sentence_transformers.json").write_text(json.dumps(beside))
    assert plan(folder).plan.activation == activation
    assert plan(folder, activation="softmax").plan.activation == "softmax"


def test_an_activation_that_no_bundle_applies_is_refused(tmp_path: Path):
    folder = write(tmp_path / "c", sbert_ce_default_activation_function="torch.nn.GELU")
    with pytest.raises(
        CheckpointError, match=r"names the activation 'torch.nn.GELU'.*--activation"
    ):
        plan(folder)
    assert plan(folder, activation="sigmoid").plan.activation == "sigmoid"


def test_an_activation_is_for_classifiers_of_texts(tmp_path: Path):
    write_family(tmp_path / "c", "bert", "question-answering")
    with pytest.raises(InputError, match="--activation is for text classification"):
        plan(tmp_path / "c", activation="sigmoid")


def test_scores_are_those_of_the_pipeline_of_transformers(tmp_path: Path):
    """A cross-encoder, whose one logit its config turns into a probability."""
    folder = write(tmp_path / "c", 1, sbert_ce_default_activation_function=SIGMOID)
    export(folder, tmp_path / "bundle")
    texts = ["a good film", "the story was bad"]
    expected = transformers.pipeline(TASK, str(folder))(texts)
    with Session(tmp_path / "bundle", threads=1) as session:
        assert session.bundle.manifest.activation == "sigmoid"
        for answer, right in zip(session(texts), expected, strict=True):
            assert answer.score == pytest.approx(right["score"], abs=1e-5)
            assert answer.label == right["label"]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "identity"])
def test_probabilities_are_those_of_the_ids_where_names_repeat(tmp_path: Path, activation: str):
    bundle = build_tiny_bundle(tmp_path / "bundle")

    def rename(manifest: dict[str, Any]) -> None:
        manifest["labels"] = ["same", "other", "same"]
        manifest["activation"] = activation

    edit_manifest(bundle, rename)
    with Session(bundle, threads=1) as session:
        [answer] = session(["a very good film"])
        [encoded] = session._encoder.encode(["a very good film"])
        logits = session.run({"input_ids": [encoded.ids]}).logits[0].astype(np.float64)
    values = {
        "softmax": np.exp(logits) / np.exp(logits).sum(),
        "sigmoid": 1 / (1 + np.exp(-logits)),
        "identity": logits,
    }[activation]
    assert answer.probabilities == pytest.approx(values.tolist(), abs=1e-5)
    assert answer.label_id == int(values.argmax())
    assert answer.score == answer.probabilities[answer.label_id] == answer.scores[answer.label]
    assert answer.scores == {
        "same": max(answer.probabilities[0], answer.probabilities[2]),
        "other": answer.probabilities[1],
    }
    assert json.loads(json.dumps(answer.to_dict()))["probabilities"] == answer.probabilities

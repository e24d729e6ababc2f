"""Plain transformers checkpoints: a few families in full, and everything that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import plain
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime import Session
from effbert.runtime.errors import CheckpointError, ExportError
from families import SHAPES, check_minimal_host, largest_difference, write_family
from matrices import slow_but

TASKS = {
    "bert": "text-classification",
    "roberta": "token-classification",
    "distilbert": "question-answering",
    "albert two groups": "text-classification",
    "mobilebert": "token-classification",
    "fnet": "text-classification",
    "modernbert": "text-classification",
}
each_family = pytest.mark.parametrize("name", slow_but(TASKS, "bert", "distilbert"))
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """(family, task) -> its torch model and its bundle, exported once."""

    @cache
    def make(name: str, task: str):
        folder = tmp_path_factory.mktemp("plain")
        model = write_family(folder / "checkpoint", name, task)
        export(folder / "checkpoint", folder / "bundle")
        return model, Session(folder / "bundle", threads=1)

    return make


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_family(tmp_path / "checkpoint", "bert", "text-classification")
    return tmp_path / "checkpoint"


def load_plain(folder: Path) -> Tensors:
    """The weights of the model that is made of a checkpoint."""
    return plain.load(open_checkpoint(folder), LoadOptions()).state_dict()


def edit_config(folder: Path, **fields: Any) -> None:
    """Set fields of config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_tensors(folder: Path, edit: Callable[[Tensors], Tensors]) -> None:
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path)


def dry_run(folder: Path, **options: Any):
    return export(folder, folder.parent / "bundle", dry_run=True, **options)


@each_family
def test_answers_equal_those_of_transformers(made: Callable, name: str):
    model, session = made(name, TASKS[name])
    atol = 2e-3 if name == "mobilebert" else 1e-4
    assert largest_difference(model, session, SHAPES) <= atol


@each_family
def test_the_minimal_host_agrees(made: Callable, name: str):
    check_minimal_host(made(name, TASKS[name])[1])


def test_there_is_one_exit_after_the_last_layer(made: Callable):
    _, session = made("bert", "text-classification")
    result = session.run({"input_ids": [[5, 6, 7], [8, 9, 10]]})
    assert [e.layer for e in session.exits] == [2]
    assert result.exit_layer.tolist() == [2, 2]
    assert not session.knobs


def test_funnel_needs_rows_long_enough_to_halve(tmp_path: Path):
    write_family(tmp_path / "c", "funnel", "text-classification")
    assert dry_run(tmp_path / "c").description.limits.min_length == 5


@pytest.mark.parametrize(
    "settings, problem",
    [
        ({}, "single-label"),
        ({"num_labels": 1}, "regression"),
        ({"problem_type": "multi_label_classification"}, "multi-label"),
        ({"problem_type": "regression"}, "regression"),
    ],
)
def test_the_problem_follows_the_config(tmp_path: Path, settings: dict, problem: str):
    write_family(tmp_path / "c", "bert", "text-classification", **settings)
    assert dry_run(tmp_path / "c").description.problem == problem


def test_labels_come_from_the_config(checkpoint: Path):
    edit_config(checkpoint, id2label={"0": "bad", "1": "fair", "2": "good"})
    assert dry_run(checkpoint).description.labels == ("bad", "fair", "good")


def test_positions_before_the_first_of_a_roberta_are_not_promised(tmp_path: Path):
    write_family(tmp_path / "c", "roberta", "text-classification", max_position_embeddings=66)
    assert dry_run(tmp_path / "c").description.limits.max_length == 64


def test_a_roberta_under_the_config_of_a_bert_is_a_roberta(tmp_path: Path):
    model = write_family(tmp_path, "roberta", "text-classification")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "bert"}))
    found = plain.load(open_checkpoint(tmp_path), LoadOptions())
    assert found.description.architecture == "roberta"
    assert "positions are counted from the padding id" in found.description.notes[0]
    ids = torch.tensor([[0, 7, 9, 2]])
    with torch.inference_mode():
        [(_, outputs)] = found(ids, torch.ones_like(ids))
        torch.testing.assert_close(outputs["logits"], model(ids).logits, atol=1e-5, rtol=0)


def test_sparse_bigbird_is_limited_to_where_transformers_attends_fully(tmp_path: Path):
    write_family(tmp_path / "c", "big_bird sparse", "text-classification", block_size=8)
    assert dry_run(tmp_path / "c").description.limits.max_length == (5 + 2 * 2) * 8


def test_old_names_and_leftovers_of_pretraining_load(checkpoint: Path, tmp_path: Path):
    def age(tensors: Tensors) -> Tensors:
        old = {
            k.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): t
            for k, t in tensors.items()
        }
        extra = {"cls.predictions.bias": torch.zeros(99)}
        return old | extra | {"bert.embeddings.position_ids": torch.arange(140)[None]}

    new = load_plain(checkpoint)
    edit_tensors(checkpoint, age)
    assert "bert.embeddings.LayerNorm.gamma" in load_file(checkpoint / "model.safetensors")
    old = load_plain(checkpoint)
    assert new.keys() == old.keys()
    assert all(torch.equal(tensor, old[name]) for name, tensor in new.items())


def test_half_precision_weights_are_computed_in_float32(checkpoint: Path):
    edit_tensors(checkpoint, lambda tensors: {k: t.half() for k, t in tensors.items()})
    edit_config(checkpoint, dtype="float16")
    model = plain.load(open_checkpoint(checkpoint), LoadOptions())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_task_is_told_by_a_head_where_the_config_is_silent(tmp_path: Path):
    write_family(tmp_path / "c", "distilbert", "question-answering")
    edit_config(tmp_path / "c", architectures=None)
    assert dry_run(tmp_path / "c").description.task == "question-answering"


def test_an_ambiguous_head_needs_the_task(checkpoint: Path):
    edit_config(checkpoint, architectures=None)
    with pytest.raises(ExportError, match="does not say what it was trained for"):
        dry_run(checkpoint)
    task = "text-classification"
    assert dry_run(checkpoint, task=task).description.task == task


@pytest.mark.parametrize(
    "options, message",
    [
        ({"task": "token-classification"}, "was trained for text-classification"),
        ({"exits": "1,2"}, "one trained head, after its last layer 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(checkpoint: Path, options: dict, message: str):
    with pytest.raises(ExportError, match=message):
        dry_run(checkpoint, **options)


def without_head(tensors: Tensors) -> Tensors:
    return {k: t for k, t in tensors.items() if not k.startswith("classifier")}


def with_wide_head(tensors: Tensors) -> Tensors:
    return tensors | {"classifier.weight": torch.zeros(7, 32)}


def with_quantizer(tensors: Tensors) -> Tensors:
    return tensors | {"bert.encoder.layer.0.output.dense._input_quantizer._amax": torch.ones(1)}


def with_another_layer(tensors: Tensors) -> Tensors:
    return tensors | {
        k.replace("layer.1", "layer.2"): t.clone() for k, t in tensors.items() if "layer.1" in k
    }


@pytest.mark.parametrize(
    "edit, message",
    [
        (without_head, "lacks 2 .* tensors, such as classifier.bias"),
        (with_wide_head, r"classifier.weight is \[7, 32\], but config.json makes it \[3, 32\]"),
        (with_quantizer, "holds 1 tensor .*bert.encoder.layer.0.output.dense._input.*quantization"),
        (with_another_layer, "holds 16 tensors .*bert.encoder.layer.2.attention"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(checkpoint: Path, edit: Callable, message: str):
    edit_tensors(checkpoint, edit)
    with pytest.raises(CheckpointError, match=message):
        dry_run(checkpoint)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"is_decoder": True}, "is_decoder"),
        ({"model_type": "gpt2"}, "is a decoder"),
        ({"model_type": "t5"}, "is a decoder"),
        ({"model_type": "longformer"}, "silently wrong"),
        ({"model_type": "mra"}, "CUDA kernel"),
        ({"model_type": "canine"}, "fixes the length"),
        ({"model_type": "reformer"}, "hashing"),
        ({"model_type": "layoutlm"}, "on the page"),
        ({"model_type": "yoso", "use_expectation": False}, "CUDA kernel"),
        ({"model_type": "ibert", "quant_mode": True}, "cannot be traced"),
        ({"model_type": "nystromformer", "num_landmarks": 8}, "real landmarks"),
        ({"model_type": "no-such-model"}, "does not know model type no-such-model"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantized weights"),
        ({"architectures": ["BertForMaskedLM"]}, "saved from BertForMaskedLM"),
        ({"problem_type": "ranking"}, "ranking"),
        ({"hidden_size": "wide"}, "not a valid bert config"),
    ],
)
def test_configs_that_cannot_be_exported_are_refused(
    checkpoint: Path, fields: dict[str, Any], message: str
):
    edit_config(checkpoint, **fields)
    with pytest.raises(ExportError, match=message):
        export(checkpoint, checkpoint.parent / "bundle")
    assert not (checkpoint.parent / "bundle").exists()

"""Pruned BERTs and cut sub-networks: every layer has the width that its tensors have."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import plain, pruned
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, ExportError
from families import check_minimal_host
from matrices import slow_but
from systems.compressed_checkpoint import HEAD_SIZE, HIDDEN, pruned_heads, write_pruned
from systems.compressed_reference import Encoder, check_answers, torch_difference
from systems.edits import Tensors, claims, rewrite
from systems.exported import Exported, export_new
from vocabularies import random_rows

# How a checkpoint is written, and the size of its heads.
UNEVEN: dict[str, Any] = {"heads": (2, 4, 1), "neurons": (40, 64, 7)}
SUBNETWORK: dict[str, Any] = {
    "heads": (3, 3),
    "neurons": (48, 48),
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "dyna_hidden_size": 24,
}
AUTOTINY: dict[str, Any] = {
    "heads": (3, 3),
    "head_size": 12,
    "neurons": (50, 50),
    "num_attention_heads": 3,
    "intermediate_size": 50,
    "qkv_size": 36,
}
CHECKPOINTS: dict[str, tuple[dict[str, Any], int]] = {
    "bert, text-classification": (UNEVEN, HEAD_SIZE),
    "roberta, token-classification": (
        {"backbone": "roberta", "architecture": "TokenClassification", "heads": (1, 3, 4)},
        HEAD_SIZE,
    ),
    "autotinybert, question-answering": (
        AUTOTINY | {"architecture": "QuestionAnswering", "labels": 2, "tokenizer": None},
        12,
    ),
}
ROWS = list(random_rows("bert", 20))
every_checkpoint = pytest.mark.parametrize(
    "name", slow_but(CHECKPOINTS, "bert, text-classification")
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    @cache
    def make(name: str) -> Exported:
        options, head_size = CHECKPOINTS[name]
        return export_new(
            tmp_path_factory.mktemp("pruned"),
            partial(write_pruned, **options),
            partial(Encoder, head_size=head_size),
            vocabulary=options.get("backbone", "bert"),
        )

    return make


def load(checkpoint: Path, **options: Any):
    return pruned.load(open_checkpoint(checkpoint), LoadOptions(**options))


@every_checkpoint
def test_every_layer_has_its_own_width(exported: Callable[[str], Exported], name: str):
    model = exported(name)
    check_answers(model.session, model.reference, model.rows)


@every_checkpoint
def test_the_minimal_host_agrees(exported: Callable[[str], Exported], name: str):
    check_minimal_host(exported(name).session)


@every_checkpoint
def test_the_manifest_tells_task_and_format(exported: Callable[[str], Exported], name: str):
    manifest = exported(name).session.bundle.manifest
    assert manifest.source.format == "pruned"
    assert manifest.task == name.split(", ")[1]


@pytest.mark.parametrize(
    "options, head_size",
    [
        (UNEVEN | {"pruned_heads": pruned_heads((2, 4, 1))}, HEAD_SIZE),
        (UNEVEN | {"model_type": None, "num_labels": 3}, HEAD_SIZE),
        (UNEVEN | {"backbone": "roberta"}, HEAD_SIZE),
        (UNEVEN | {"backbone": "roberta", "model_type": "xlm-roberta"}, HEAD_SIZE),
        (UNEVEN | {"backbone": "roberta", "model_type": "camembert"}, HEAD_SIZE),
        ({"neurons": (30, 30, 30), "heads": (4, 4, 4)}, HEAD_SIZE),
        (SUBNETWORK, HEAD_SIZE),
        (SUBNETWORK | {"dyna_hidden_size": 32, "num_attention_heads": 4, "heads": (4, 4)}, 8),
        (AUTOTINY, 12),
    ],
    ids=str,
)
@pytest.mark.parametrize("noise", [False, True])
def test_every_kind_of_pruning_is_recognised(
    tmp_path: Path, options: dict[str, Any], head_size: int, noise: bool
):
    options = {k: v for k, v in options.items() if v is not None}
    checkpoint = write_pruned(tmp_path / "c", noise=noise, **options)
    assert claims(checkpoint) == ["pruned"]
    reference = Encoder(checkpoint, head_size=head_size)
    rows = random_rows(options.get("backbone", "bert"), 5)
    assert torch_difference(load(checkpoint), reference, list(rows)) <= 1e-4
    assert not (checkpoint / "pwned").exists()


def test_the_scale_is_that_of_unpruned_heads(tmp_path: Path):
    checkpoint = write_pruned(tmp_path / "c", heads=(1, 1, 1))
    right = Encoder(checkpoint, head_size=HEAD_SIZE)
    # As if a layer's one head were as wide as the hidden state: scores shrink to half.
    half = {k: t / 2 if ".query." in k else t for k, t in right.tensors.items()}
    wrong = Encoder(checkpoint, tensors=half, head_size=HEAD_SIZE)
    assert torch_difference(load(checkpoint), right, ROWS) <= 1e-4
    assert torch_difference(load(checkpoint), wrong, ROWS) > 1e-3


def test_full_layers_are_plain(tmp_path: Path):
    assert claims(write_pruned(tmp_path / "c", heads=(4, 4), neurons=(64, 64))) == []


def test_zeros_in_full_matrices_are_plain(tmp_path: Path):
    def prune(tensors: Tensors) -> Tensors:
        return {k: t * (t.abs() > 0.1) if "layer" in k else t for k, t in tensors.items()}

    checkpoint = write_pruned(tmp_path / "c", heads=(4, 4), neurons=(64, 64))
    assert claims(rewrite(checkpoint, prune)) == []
    found = plain.load(open_checkpoint(checkpoint), LoadOptions())
    assert torch_difference(found, Encoder(checkpoint), ROWS) <= 1e-4


@pytest.mark.parametrize("config", [{"layer_norm_type": "no_norm"}, {"gelu_patch": True}])
@pytest.mark.parametrize("heads", [(4, 4), (1, 4)])
def test_patched_layers_are_no_bert(tmp_path: Path, config: dict[str, Any], heads: tuple):
    checkpoint = write_pruned(tmp_path / "c", heads=heads, neurons=(64, 64), **config)
    assert claims(checkpoint) == ["pruned"]
    with pytest.raises(CheckpointError, match="no BERT any more"):
        load(checkpoint)


def without_a_layer(tensors: Tensors) -> Tensors:
    return {name: t for name, t in tensors.items() if ".layer.2." not in name}


def with_a_cut_key(tensors: Tensors) -> Tensors:
    return tensors | {"bert.encoder.layer.0.attention.self.key.weight": torch.zeros(8, HIDDEN)}


def with_a_torn_head(tensors: Tensors) -> Tensors:
    return tensors | {"bert.encoder.layer.1.attention.self.query.weight": torch.zeros(12, HIDDEN)}


def without_neurons(tensors: Tensors) -> Tensors:
    return tensors | {"bert.encoder.layer.1.intermediate.dense.weight": torch.zeros(0, HIDDEN)}


@pytest.mark.parametrize(
    "edit, config, message",
    [
        (without_a_layer, {}, "holds 2 layers, but config.json says 3"),
        (with_a_cut_key, {}, r"key\.weight is \[8, 32\], but config.json makes it \[16, 32\]"),
        (with_a_torn_head, {}, "layer 2 has 12 rows of attention .* expected whole heads of 8"),
        (without_neurons, {}, "layer 2 has .* 0 neurons, .* at least one"),
        (dict, {"num_attention_heads": 5}, "5 attention heads do not share a width of 32"),
        (dict, {"num_attention_heads": 0}, "0 attention heads do not share"),
        (dict, {"qkv_size": "wide"}, "do not share a width of 'wide'"),
        (dict, {"pruned_heads": {"0": [0]}}, "layer 1 has 2 heads, .* 1 of 4 were pruned"),
        (dict, {"pruned_heads": [1, 2]}, "pruned_heads must map layers to lists"),
        (dict, {"pruned_heads": {"0": 2}}, "pruned_heads must map layers to lists"),
        (dict, {"num_hidden_layers": "all"}, "config.json says 'all'"),
    ],
)
def test_shapes_that_fit_no_heads_are_refused(
    tmp_path: Path, edit: Callable[[Tensors], Tensors], config: dict[str, Any], message: str
):
    checkpoint = rewrite(write_pruned(tmp_path / "c"), edit, **config)
    with pytest.raises(CheckpointError, match=message):
        load(checkpoint)


def test_tasks_and_exits_follow_the_rules_of_plain_checkpoints(tmp_path: Path):
    checkpoint = write_pruned(tmp_path / "c")
    with pytest.raises(ExportError, match="was trained for text-classification"):
        load(checkpoint, task="question-answering")
    with pytest.raises(ExportError, match="one trained head, after its last layer 3"):
        load(checkpoint, exits=(1, 3))
    kept = load(checkpoint, layers="1,3")
    reference = Encoder(checkpoint, head_size=HEAD_SIZE, kept=(1, 3))
    assert torch_difference(kept, reference, ROWS) <= 1e-4

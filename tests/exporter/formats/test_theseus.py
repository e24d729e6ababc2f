"""BERT-of-Theseus as training leaves it: the successor answers, the predecessor is left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import theseus
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, ExportError
from families import check_minimal_host
from systems.compressed_checkpoint import write_theseus
from systems.compressed_reference import check_answers, theseus_reference, torch_difference
from systems.edits import Tensors, claims, rewrite
from systems.exported import Exported, export_new


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_new(tmp_path_factory.mktemp("theseus"), write_theseus, theseus_reference)


def load(checkpoint: Path, **options: str):
    return theseus.load(open_checkpoint(checkpoint), LoadOptions(**options))


def test_the_successor_answers(model: Exported):
    check_answers(model.session, model.reference, model.rows)


def test_the_minimal_host_agrees(model: Exported):
    check_minimal_host(model.session)


def test_the_bundle_holds_the_successor_only(model: Exported):
    manifest = model.session.bundle.manifest
    assert manifest.source.format == "theseus"
    assert "Theseus" in manifest.source.paper
    assert [segment.layer for segment in manifest.segments] == [3]
    stored = sum(t.numel() for t in model.reference.tensors.values())
    assert manifest.segments[0].parameters <= stored + 10  # and a few constants


@pytest.mark.parametrize("noise", [False, True])
def test_only_theseus_takes_it(tmp_path: Path, noise: bool):
    checkpoint = write_theseus(tmp_path / "c", noise=noise)
    assert claims(checkpoint) == ["theseus"]
    load(checkpoint)
    assert not (checkpoint / "pwned").exists()


@pytest.mark.parametrize("successors", [1, 2, 6])
def test_layers_are_counted_by_their_names(tmp_path: Path, successors: int):
    checkpoint = write_theseus(tmp_path / "c", successors=successors)
    found = load(checkpoint)
    assert found.description.layers == (successors,)
    assert torch_difference(found, theseus_reference(checkpoint), [[2, 9, 8, 3]]) <= 1e-4


def test_a_converted_checkpoint_is_plain(tmp_path: Path):
    def convert(tensors: Tensors) -> Tensors:
        return {
            name.replace("scc_layer", "layer"): tensor
            for name, tensor in tensors.items()
            if ".encoder.layer." not in name
        }

    checkpoint = write_theseus(tmp_path / "c")
    rewrite(checkpoint, convert, num_hidden_layers=3, model_type="bert")
    assert claims(checkpoint) == []


def without_a_layer(tensors: Tensors) -> Tensors:
    return {name: t for name, t in tensors.items() if ".scc_layer.1." not in name}


def without_the_classifier(tensors: Tensors) -> Tensors:
    return {name: t for name, t in tensors.items() if not name.startswith("classifier")}


def narrower(tensors: Tensors) -> Tensors:
    return tensors | {"bert.encoder.scc_layer.0.attention.self.key.weight": torch.zeros(8, 32)}


def quantized(tensors: Tensors) -> Tensors:
    return tensors | {"bert.encoder.scc_layer.0.output.dense.act_clip_val": torch.zeros(2)}


@pytest.mark.parametrize(
    "edit, message",
    [
        (without_a_layer, r"lacks 16 .* such as bert\.encoder\.layer\.1\.attention"),
        (without_the_classifier, r"lacks 2 .* such as classifier\.bias"),
        (narrower, r"key\.weight is \[8, 32\], but config\.json makes it \[32, 32\]"),
        (
            quantized,
            r"holds 1 tensor that a theseus checkpoint has no place for .*clip.*quantization",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, edit: Callable[[Tensors], Tensors], message: str
):
    checkpoint = rewrite(write_theseus(tmp_path / "c"), edit)
    with pytest.raises(CheckpointError, match=message):
        export(checkpoint, tmp_path / "bundle", dry_run=True)


def test_another_task_is_refused(tmp_path: Path):
    with pytest.raises(ExportError, match="was trained for text-classification"):
        load(write_theseus(tmp_path / "c"), task="question-answering")

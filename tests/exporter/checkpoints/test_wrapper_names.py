"""What training tools put into the names of tensors, and how a model is found behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats.recognise import recognise
from effbert.runtime.errors import CheckpointError
from families import write_family
from weights_edits import Tensors, read_weights, write_weights

Rename = Callable[[str], str]
WRAPPED: dict[str, Rename] = {
    "DataParallel": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "parts in FSDP": lambda name: name.replace("layer.1.", "layer.1._fsdp_wrapped_module."),
    "checkpointed layers": lambda name: name.replace(
        "encoder.", "encoder._checkpoint_wrapped_module.", 1
    ),
    "DeepSpeed": lambda name: f"_forward_module.module.{name}",
    "in an attribute": lambda name: f"model.{name}",
    "in attributes": lambda name: f"net.model._orig_mod.{name}",
}


def renamed(checkpoint: Path, rename: Rename) -> Path:
    tensors = read_weights(checkpoint)
    return write_weights(checkpoint, {rename(name): tensor for name, tensor in tensors.items()})


@pytest.mark.parametrize("name", ["deebert", "plain"])
@pytest.mark.parametrize("rename", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_model_is_the_same_model(
    request: pytest.FixtureRequest, name: str, rename: Rename
) -> None:
    checkpoint = request.getfixturevalue(name)
    before = {*open_checkpoint(checkpoint).shapes}
    opened, family = recognise("auto", open_checkpoint(renamed(checkpoint, rename)))
    assert family.name == name
    assert {*opened.shapes} == before
    assert {*opened.load_tensors()} == before


def test_a_prefix_that_belongs_to_the_model_stays(tmp_path: Path) -> None:
    write_family(tmp_path / "c", "modernbert", "text-classification")
    names = {*open_checkpoint(tmp_path / "c").shapes}
    assert any(name.startswith("model.") for name in names)
    opened, _ = recognise("auto", open_checkpoint(renamed(tmp_path / "c", "model.{}".format)))
    assert {*opened.shapes} == names
    bare = {k: t for k, t in read_weights(tmp_path / "c").items() if k.startswith("model.model.")}
    write_weights(tmp_path / "c", {k.removeprefix("model."): t for k, t in bare.items()})
    opened, _ = recognise("auto", open_checkpoint(tmp_path / "c"))
    assert opened.root == ""


def test_names_that_collide_behind_a_wrapper_are_refused(plain: Path) -> None:
    tensors = read_weights(plain)
    bias = tensors["classifier.bias"]
    write_weights(plain, tensors | {"module.classifier.bias": bias.clone()})
    with pytest.raises(
        CheckpointError, match=r"classifier\.bias and module\.classifier\.bias are both"
    ):
        open_checkpoint(plain).shapes  # noqa: B018


def test_a_weight_by_its_old_and_its_new_name_is_refused(plain: Path, tmp_path: Path) -> None:
    tensors = read_weights(plain)
    norm = tensors["bert.embeddings.LayerNorm.weight"]
    write_weights(plain, tensors | {"bert.embeddings.LayerNorm.gamma": norm + 1})
    with pytest.raises(CheckpointError, match="twice"):
        export(plain, tmp_path / "bundle", dry_run=True)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "module"])
def test_a_state_dict_among_other_things_is_found(plain: Path, tmp_path: Path, key: str) -> None:
    tensors: Tensors = read_weights(plain)
    (plain / "model.safetensors").unlink()
    wrapped = {f"model.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"epoch": 3, key: wrapped, "optimizer_states": []}, plain / "last.ckpt")
    notes = export(plain, tmp_path / "bundle", dry_run=True).notes
    assert notes == (f"Left out: what last.ckpt holds beside its {key} (epoch, optimizer_states).",)

"""No export succeeds while anything of the checkpoint was neither used nor reported."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkpoints import write_deebert, write_pabee
from effbert.exporter import export
from effbert.exporter.pipeline import Report
from effbert.runtime.errors import ExportError
from families import write_family
from systems.act_model import write_act
from systems.berxit_checkpoint import write_berxit
from systems.cascadebert_checkpoint import write_cascadebert
from systems.compressed_checkpoint import write_pruned, write_theseus, write_tinybert
from systems.elasticbert_checkpoint import write_elasticbert
from systems.elbert_checkpoint import write_elbert
from systems.fastbert_checkpoint import write_fastbert
from systems.gpfee_checkpoint import write_gpfee
from systems.sentee_checkpoint import write_sentee
from systems.sledgehammer_checkpoint import write_sledgehammer
from weights_edits import add_settings, read_weights, write_weights


def write_plain(folder: Path) -> Path:
    write_family(folder, "bert", "text-classification")
    return folder


WRITERS: Mapping[str, Callable[..., Any]] = {
    "act": write_act,
    "berxit": write_berxit,
    "cascadebert": write_cascadebert,
    "deebert": write_deebert,
    "elasticbert": write_elasticbert,
    "elbert": write_elbert,
    "fastbert": write_fastbert,
    "gpfee": write_gpfee,
    "pabee": write_pabee,
    "plain": write_plain,
    "pruned": write_pruned,
    "sentee": write_sentee,
    "sledgehammer": write_sledgehammer,
    "theseus": write_theseus,
    "tinybert": write_tinybert,
}
# Parts of a layer or a model that change what it computes, below any of its tensors.
PARTS = (
    "distance_embedding.weight",
    "adapter.down.weight",
    "adapters.task.adapter_down.0.weight",
    "prefix_encoder.embedding.weight",
    "classifier.dense.weight",
    "classifiers.99.weight",
    "prompt_embeddings.weight",
    "query.ia3_l",
    "scale",
    "weight_1",
    "_amax",
)
LEFT_OUT = ("cls.predictions.bias", "lm_head.dense.weight", "teacher.layer.weight", "loss.weight")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint of a format, written once."""

    @cache
    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name) / "c"
        WRITERS[name](folder)
        return folder

    return make


@pytest.fixture
def altered(pristine: Callable[[str], Path], tmp_path: Path) -> Callable[..., Report]:
    """Try to export a copy of a checkpoint with more tensors and other settings."""

    def run(name: str, tensors: Mapping[str, torch.Tensor] = {}, **config: Any) -> Report:
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        folder = shutil.copytree(pristine(name), tmp_path / "c")
        write_weights(folder, read_weights(folder) | tensors)
        add_settings(folder, **config)
        return export(folder, tmp_path / "bundle", dry_run=True)

    return run


@st.composite
def tensor_names(draw: st.DrawFn, names: list[str]) -> str:
    """A part of a model, at a random depth of the names that a checkpoint has."""
    parts = draw(st.sampled_from(names)).split(".")
    below = parts[: draw(st.integers(0, len(parts) - 1))]
    part = draw(
        st.sampled_from(PARTS + LEFT_OUT) | st.from_regex(r"[a-z_]{1,8}(\.\d)?", fullmatch=True)
    )
    return ".".join([*below, part])


def count_left_out(notes: Iterable[str]) -> int:
    """How many tensors the notes of an export account for."""
    found = (re.match(r"Left out: (\d+) tensor", note) for note in notes)
    return sum(int(match[1]) for match in found if match)


@given(data=st.data())
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_tensor_more_is_reported_or_refused_by_its_name(
    pristine: Callable[[str], Path], altered: Callable[..., Report], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(WRITERS)))
    stored = read_weights(pristine(name))
    extra = data.draw(tensor_names(sorted(stored)).filter(lambda each: each not in stored))
    said = ""
    try:
        notes = altered(name, {extra: torch.ones(2, 2)}).notes
    except ExportError as error:
        said, notes = str(error), ()
    reported = count_left_out(notes) - count_left_out(altered(name).notes)
    assert extra in said or reported == 1


@pytest.mark.parametrize("name", sorted(WRITERS))
@pytest.mark.parametrize(
    "setting, value",
    [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("pre_seq_len", 16),
        ("quantization_config", {"quant_method": "gptq"}),
    ],
)
def test_a_setting_that_changes_answers_is_refused_by_its_name(
    altered: Callable[..., Report], name: str, setting: str, value: Any
) -> None:
    with pytest.raises(ExportError, match=setting):
        altered(name, **{setting: value})


def test_settings_that_change_no_answer_are_harmless(altered: Callable[..., Report]) -> None:
    for name in ("deebert", "plain"):
        settings = {"chunk_size_feed_forward": 2, "adapters": {"adapters": {}}, "pruned_heads": {}}
        assert altered(name, position_embedding_type="absolute", **settings).notes == ()


@pytest.mark.parametrize("name", ["deebert", "pabee", "plain"])
def test_what_only_pre_training_used_is_left_out_and_reported(
    altered: Callable[..., Report], name: str
) -> None:
    notes = altered(name, {"cls.predictions.bias": torch.ones(3)}).notes
    assert notes == ("Left out: 1 tensor (cls.predictions.bias): the head of the pre-training.",)


def test_positions_that_do_not_count_from_zero_are_refused(altered: Callable[..., Report]) -> None:
    ids = {"bert.embeddings.position_ids": torch.arange(8)[None]}
    assert "position_ids" in altered("deebert", ids).notes[0]
    ids = {"bert.embeddings.position_ids": torch.arange(1, 9)[None]}
    with pytest.raises(ExportError, match="position_ids does not hold the usual numbers"):
        altered("deebert", ids)


@pytest.mark.parametrize(
    "extra, said",
    [
        ("bert.encoder.layer.0.attention.self.distance_embedding.weight", "relative positions"),
        ("bert.encoder.layer.0.output.adapter.down.weight", "an adapter"),
        ("bert.prefix_encoder.embedding.weight", "a prefix or prompt"),
        ("bert.encoder.layer.0.output.dense._input_quantizer._amax", "quantization"),
        ("bert.encoder.layer.0.frobnicate.weight", "if only the training needed them"),
    ],
)
def test_an_error_says_what_unknown_tensors_look_like(
    altered: Callable[..., Report], extra: str, said: str
) -> None:
    for name in ("deebert", "plain"):
        with pytest.raises(ExportError, match=f"holds 1 tensor that a {name} checkpoint.*{said}"):
            altered(name, {extra: torch.ones(2, 2)})


def test_an_unknown_part_of_the_models_own_head_is_no_other_tasks_head(
    altered: Callable[..., Report],
) -> None:
    assert "qa_outputs" in altered("plain", {"qa_outputs.bias": torch.ones(2)}).notes[0]
    with pytest.raises(ExportError, match=r"classifier\.dense\.weight"):
        altered("plain", {"classifier.dense.weight": torch.ones(32, 32)})


def test_only_a_missing_head_is_to_be_fine_tuned(
    pristine: Callable[[str], Path], tmp_path: Path
) -> None:
    def lacking(**renamed: str) -> str:
        folder = shutil.copytree(pristine("plain"), tmp_path / "c", dirs_exist_ok=True)
        tensors = read_weights(pristine("plain"))
        for old, new in renamed.items():
            for leaf in ("weight", "bias"):
                tensor = tensors.pop(f"{old}.{leaf}")
                tensors |= {f"{new}.{leaf}": tensor} if new else {}
        with pytest.raises(ExportError) as caught:
            export(write_weights(folder, tensors), tmp_path / "bundle", dry_run=True)
        return str(caught.value)

    assert "fine-tune" in lacking(classifier="")
    said = lacking(classifier="my_head")
    assert "my_head.weight" in said
    assert "fine-tune" not in said

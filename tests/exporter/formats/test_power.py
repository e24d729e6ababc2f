"""PoWER-BERT as its authors' Keras code leaves it, against that code's arithmetic in numpy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.encoders.length_adaptive import LengthOptions, make_length_adaptive
from effbert.exporter.encoders.power_bert import KerasSelfAttention
from effbert.exporter.formats import power
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import MissingDependencyError
from exit_checks import LOGITS_ATOL, ROW_ATOL, batch, batches
from families import check_minimal_host
from systems.edits import claims
from systems.exported import Exported, export_new, refused
from vocabularies import MAX_TOKENS, random_rows

h5py = pytest.importorskip("h5py", reason="the extra keras is not installed")
from systems.power_checkpoint import (  # noqa: E402  # these need h5py
    LAYERS,
    RETENTION,
    random_weights,
    save,
    settings,
    write_power,
)
from systems.power_reference import PowerReference  # noqa: E402

CONFIGURATIONS = [RETENTION, (40, 30, 10), (30, 3, 1)]
ROWS = list(random_rows("bert", 60))


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("finetuned")
    return export_new(folder, write_power, PowerReference, step="finetune")


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_new(tmp_path_factory.mktemp("retrained"), write_power, PowerReference)


def load(checkpoint: Path, lengths: LengthOptions | None = None) -> Any:
    opened = open_checkpoint(checkpoint)
    model = power.load(opened, LoadOptions())
    asked = power.complete_lengths(opened, lengths)
    return model if asked is None else make_length_adaptive(model, asked)


def check(model: Exported, retention: Sequence[int] | None, knobs: dict[str, Any]) -> None:
    """Alone and in padded batches of different lengths rows are answered as by the loop."""
    clear = 0
    for sizes in ((1,), (16, 5)):
        for part in batches(ROWS, sizes):
            found = model.session.run(batch(part), knobs).logits
            for logits, row in zip(found, part, strict=True):
                expected = model.reference.run(row, retention)
                if expected.gap < 1e-5:
                    continue
                clear += 1
                np.testing.assert_allclose(logits, expected.logits, atol=LOGITS_ATOL, rtol=0)
    assert clear >= 2 * len(ROWS) - 4


# --- what it answers -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fine_tuned_model_answers_in_full(finetuned: Exported):
    check(finetuned, None, {})
    assert not finetuned.session.bundle.manifest.knobs


@pytest.mark.parametrize("retention", CONFIGURATIONS, ids=str)
def test_tokens_are_dropped_as_the_authors_do(retrained: Exported, retention: Sequence[int]):
    check(retrained, retention, {"lengths": list(retention)})


def test_the_configuration_in_the_log_is_the_default(retrained: Exported):
    check(retrained, RETENTION, {})
    said = "Note: log_file.txt says that it was trained with --retention 24,12,4."
    assert said in retrained.said


@pytest.mark.parametrize("lengths", [[0.7, 0.5, 0.3], [9, 5, 1]], ids=str)
def test_rows_do_not_depend_on_batch_or_padding(retrained: Exported, lengths: list[float]):
    knobs = {"lengths": lengths}
    rows = [row for row in ROWS[:24] if len(row) <= 40]
    together = retrained.session.run(batch(rows, fill=7, extra=7), knobs).logits
    for logits, row in zip(together, rows, strict=True):
        alone = retrained.session.run(batch([row]), knobs).logits[0]
        np.testing.assert_allclose(logits, alone, atol=ROW_ATOL, rtol=0)


def test_second_texts_have_their_own_segment(retrained: Exported):
    row = ROWS[0]
    types = [0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2)
    inputs = batch([row]) | {"token_type_ids": np.array([types])}
    expected = retrained.reference.run(row, RETENTION, types)
    found = retrained.session.run(inputs).logits[0]
    np.testing.assert_allclose(found, expected.logits, atol=LOGITS_ATOL, rtol=0)
    assert np.abs(found - retrained.reference.run(row, RETENTION).logits).max() > 1e-2


@pytest.mark.slow
def test_the_minimal_host_agrees(finetuned: Exported):
    check_minimal_host(finetuned.session)


@pytest.mark.parametrize("retention", [None, RETENTION], ids=["full", "dropping"])
def test_the_constant_is_in_the_denominator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retention: Sequence[int] | None
):
    """1e-7 is hardly seen, a half is."""
    monkeypatch.setattr(KerasSelfAttention, "constant", 0.5)
    checkpoint = write_power(tmp_path / "c", "retrained" if retention else "finetune")
    model, reference = load(checkpoint), PowerReference(checkpoint, constant=0.5)
    usual = PowerReference(checkpoint)
    knobs = {"lengths": torch.tensor(retention) + 0.5} if retention else {}
    for row in ROWS[:8]:
        ids = torch.tensor([row])
        with torch.inference_mode():
            [(_, answer)] = model(ids, torch.ones_like(ids), **knobs)
        found = answer["logits"][0].numpy()
        np.testing.assert_allclose(found, reference.run(row, retention).logits, atol=LOGITS_ATOL)
        assert np.abs(found - usual.run(row, retention).logits).max() > 1e-2


# --- what it is taken for ------------------------------------------------------------------------


def test_the_bundle_says_what_it_is(retrained: Exported):
    manifest = retrained.session.bundle.manifest
    assert manifest.source.format == "power"
    assert "PoWER-BERT" in manifest.source.paper
    assert manifest.limits.max_length == MAX_TOKENS  # the rows of the position table
    assert manifest.tokenizer is not None
    assert not (retrained.checkpoint.parent / "touched").exists()


@pytest.mark.parametrize("step", ["finetune", "retrained"])
@pytest.mark.parametrize("direct", [True, False], ids=["file", "folder"])
def test_only_power_takes_it(tmp_path: Path, step: str, direct: bool):
    path = write_power(tmp_path / "c", step)
    assert claims(path if direct else path.parent) == ["power"]


@pytest.mark.parametrize("layers", [1, 3, 12])
def test_layers_are_counted_by_their_names(tmp_path: Path, layers: int):
    path = write_power(tmp_path / "c", "finetune", layers=layers)
    assert load(path).description.layers == (layers,)


@pytest.mark.parametrize("classes, problem", [(1, "regression"), (2, "single-label")])
def test_one_class_is_a_regression(tmp_path: Path, classes: int, problem: str):
    path = write_power(tmp_path / "c", "finetune", classes=classes)
    assert load(path).description.problem == problem


@pytest.mark.parametrize(
    "step, logged, asked, expected",
    [
        ("finetune", RETENTION, None, None),
        ("finetune", RETENTION, LengthOptions(), (MAX_TOKENS,) * LAYERS),
        ("finetune", None, LengthOptions(retention=(9, 8, 7)), (9, 8, 7)),
        ("retrained", RETENTION, None, RETENTION),
        ("retrained", RETENTION, LengthOptions(), RETENTION),
        ("retrained", RETENTION, LengthOptions(retention=(9, 8, 7)), (9, 8, 7)),
        ("retrained", None, LengthOptions(), (MAX_TOKENS,) * LAYERS),
    ],
)
def test_the_user_goes_before_the_log(
    tmp_path: Path,
    step: str,
    logged: Sequence[int] | None,
    asked: LengthOptions | None,
    expected: Sequence[int] | None,
):
    found = power.complete_lengths(
        open_checkpoint(write_power(tmp_path / "c", step, logged=logged)), asked
    )
    assert (found and found.retention) == expected


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("logged", [None, (24, 12)], ids=["no log", "of another model"])
def test_a_model_that_drops_tokens_needs_to_know_how_many(
    tmp_path: Path, logged: Sequence[int] | None
):
    said = refused(write_power(tmp_path / "c", logged=logged))
    assert "trained to drop tokens, but does not hold how many; say --retention" in said


def test_a_retention_of_another_depth_is_refused(tmp_path: Path):
    said = refused(write_power(tmp_path / "c"), "--retention", "9,5")
    assert "got 2 counts for 3 encoder layers" in said


def test_the_model_of_the_search_is_refused(tmp_path: Path):
    said = refused(write_power(tmp_path / "c", "configuration_search_model"))
    assert "(Soft-Extract layers); export retrained.hdf5" in said


def test_one_of_several_files_must_be_named(tmp_path: Path):
    write_power(tmp_path / "c", "finetune").rename(tmp_path / "other.hdf5")
    (tmp_path / "other.hdf5").rename(tmp_path / "c" / "other.hdf5")
    save(tmp_path / "c" / "retrained.hdf5", random_weights(1, 2), settings(1, 2, "Extract"))
    said = refused(tmp_path / "c")
    assert "holds several weights files (other.hdf5, retrained.hdf5); name one" in said


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_power(tmp_path / "c")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "effbert\[keras\]"'):
        open_checkpoint(path)


def test_another_format_is_refused(tmp_path: Path):
    said = refused(write_power(tmp_path / "c"), "--format", "deebert")
    assert "is not a deebert checkpoint" in said

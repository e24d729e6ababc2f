"""Length configurations of models that lack some of their layers, and those named at the export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import write_deebert
from effbert.exporter import export
from effbert.runtime import Session
from effbert.runtime.commands import effbert
from effbert.runtime.errors import InputError
from exit_checks import LOGITS_ATOL
from export_command import run_command, sentence
from families import write_family
from systems.length_reference import LengthReference
from systems.length_rows import batch, rows
from vocabularies import fast_tokenizer

DEPTH = 5
KEPT = (1, 4)
TASK = "text-classification"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers") / "checkpoint"
    write_family(folder, "bert", TASK, num_hidden_layers=DEPTH, vocab_size=140)
    fast_tokenizer("bert").save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    @cache
    def make(**options: Any) -> Path:
        bundle = tmp_path_factory.mktemp("layers") / "bundle"
        export(checkpoint, bundle, layers="1,4", **options)
        return bundle

    return make


def compare(session: Session, reference: LengthReference, lengths: Sequence[float]) -> None:
    texts = rows(24)
    logits = session.run(batch(texts), {"lengths": list(lengths)}).logits
    compared = 0
    for found, row in zip(logits, texts, strict=True):
        said = reference.run(row, lengths)
        if said.gap < 1e-5:
            continue
        compared += 1
        pooled = torch.tanh(reference.bert.linear("bert.pooler.dense", said.states[-1][0]))
        expected = reference.bert.linear("classifier", pooled).numpy()
        np.testing.assert_allclose(found, expected, atol=LOGITS_ATOL, rtol=0)
    assert compared >= 20


@pytest.mark.parametrize("lengths", [[1.0, 1.0], [0.7, 0.2], [12, 2]], ids=str)
def test_a_configuration_has_a_value_for_each_layer_that_is_left(
    exported, checkpoint: Path, lengths: Sequence[float]
):
    session = Session(exported(length_adaptive=True), threads=1)
    compare(session, LengthReference(checkpoint, layers=KEPT), lengths)


@pytest.mark.slow
def test_a_retention_for_all_layers_keeps_the_counts_of_those_that_are_left(
    exported, checkpoint: Path
):
    session = Session(exported(retention=(20, 14, 9, 5, 2)), threads=1)
    assert session.knobs["lengths"].default == [20, 5]
    compare(session, LengthReference(checkpoint, ignore_self=True, layers=KEPT), [20, 5])


@pytest.fixture(scope="module")
def with_exits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers") / "checkpoint"
    return write_deebert(folder, layers=4, tokenizer="fast")


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(20, 12)])
def test_layers_above_the_deepest_exit_have_no_length(
    with_exits: Path, tmp_path: Path, counts: tuple[int, ...]
):
    export(with_exits, tmp_path / "bundle", exits=[1, 2], retention=counts)
    session, texts = Session(tmp_path / "bundle", threads=1), rows(12)
    assert session.knobs["lengths"].default == [20, 12]
    reference = LengthReference(with_exits, ignore_self=True, layers=(1, 2))
    name = "bert.encoder.highway.1"
    for found, row in zip(session.run(batch(texts)).logits, texts, strict=True):
        first = reference.run(row, [20, 12]).states[-1][0]
        pooled = torch.tanh(reference.bert.linear(f"{name}.pooler.dense", first))
        expected = reference.bert.linear(f"{name}.classifier", pooled).numpy()
        np.testing.assert_allclose(found, expected, atol=LOGITS_ATOL, rtol=0)


def test_a_retention_must_fit_the_layers_below_the_deepest_exit(with_exits: Path, tmp_path: Path):
    options = {"exits": [1, 2], "dry_run": True}
    with pytest.raises(InputError, match="got 3 counts for 2 encoder layers"):
        export(with_exits, tmp_path / "out", retention=(9, 5, 2), **options)


@pytest.mark.parametrize("counts", [(9, 5, 3), (9, 5, 3, 2), (9,) * 6])
def test_other_retentions_are_refused(checkpoint: Path, tmp_path: Path, counts: tuple[int, ...]):
    with pytest.raises(InputError, match=f"got {len(counts)} counts for 2 encoder layers"):
        export(checkpoint, tmp_path / "out", layers="1,4", retention=counts, dry_run=True)


@pytest.mark.slow
def test_lengths_are_given_on_the_command_lines(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    bundle = tmp_path / "bundle"
    options = ("--length-adaptive", "--knob", "lengths=9,7,5,4,2")
    assert run_command(capfd, checkpoint, bundle, *options).code == 0
    session, texts = Session(bundle, threads=1), ["a good film", "the story of a bad city"]
    assert session.knobs["lengths"].default == [9, 7, 5, 4, 2]
    for said, lengths in (("3,2,2,2,2", [3, 2, 2, 2, 2]), ("0.5", 0.5), ("2", 2), ("1.0", 1.0)):
        effbert.main(
            ["run", str(bundle), "--json", "--knob", f"lengths={said}", *texts],
            standalone_mode=False,
        )
        found = capfd.readouterr().out.splitlines()
        answers = session(texts, knobs={"lengths": lengths})
        for line, answer in zip(found, answers, strict=True):
            assert f'"score":{answer.score}' in line


@pytest.mark.parametrize(
    "value, said",
    [
        ("9,7,8,4,2", "got 8 for layer 3 after 7, but dropped tokens do not come back"),
        ("9,7", "got 2 values, expected one or 5"),
        ("9,0.5,0.5,0.5,0.5", "counts and shares in one list"),
        ("0", "got 0, expected a count of tokens"),
        ("1.5", "got 1.5, expected a count of tokens"),
    ],
)
def test_defaults_that_make_no_sense_are_refused_before_the_export(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], value: str, said: str
):
    options = ("--length-adaptive", "--knob", f"lengths={value}", "--dry-run")
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle", *options)
    assert outcome.code == 2
    assert said in sentence(outcome)

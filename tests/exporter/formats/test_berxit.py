"""BERxiT checkpoints, exported and answered as the authors' loop does."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints import write_deebert
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import berxit, deebert
from effbert.exporter.models.exit_model import OVERRIDE
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, ExportError
from exit_checks import (
    run,
)
from export_command import run_command, sentence
from systems.berxit_checkpoint import write_berxit
from systems.case import ExportedCase
from systems.cases import model_named
from systems.edits import claims, rewrite

NEVER = -math.inf


@model_named("berxit-entropy", "berxit-learned", "berxit-learned-regression")
def test_the_last_highway_never_answers(model: ExportedCase):
    knobs = {"threshold": [NEVER, NEVER, NEVER, math.inf]}
    found = run(model.session, model.rows[:40], knobs, (16,))
    assert (found["exit_layer"] == 4).all()
    for logits, row in zip(found["logits"], model.rows, strict=False):
        heads = model.reference.heads(row)
        np.testing.assert_allclose(logits, heads.main, atol=1e-4, rtol=0)
        assert (heads.main - heads.highways[-1]).abs().max() > 1e-3


# --- recognition --------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["bert", "roberta", "albert", "distilbert"])
@pytest.mark.parametrize("noise", [False, True])
def test_berxit_is_recognised_and_nothing_else(backbone: str, noise: bool, tmp_path: Path):
    checkpoint = write_berxit(tmp_path / "checkpoint", backbone=backbone, layers=2, noise=noise)
    assert claims(checkpoint) == ["berxit"]
    assert not (checkpoint / "pwned").exists()


@pytest.mark.parametrize("mark", ["divide", "core.", "lte_classifier"])
def test_each_mark_alone_is_enough(mark: str, tmp_path: Path):
    marks = {"core.", "lte_classifier"} - {mark}
    checkpoint = rewrite(
        write_berxit(tmp_path / "checkpoint", layers=2),
        lambda tensors: {
            f"module.{k}": t for k, t in tensors.items() if not any(m in k for m in marks)
        },
        **({} if mark == "divide" else {"divide": None}),
    )
    assert claims(checkpoint) == ["berxit"]


@pytest.mark.parametrize("layout", ["castorini", "hf"])
def test_deebert_is_left_alone(layout: str, tmp_path: Path):
    assert claims(write_deebert(tmp_path / "checkpoint", layout=layout, layers=2)) == ["deebert"]


# --- loading ------------------------------------------------------------------------------------


def load(checkpoint: Path, **options: object):
    return berxit.load(open_checkpoint(checkpoint), LoadOptions(**options))


@pytest.mark.parametrize("divide", ["alternate", "raw", "lte-first", None])
@pytest.mark.parametrize("labels, policy", [(2, "entropy-exp"), (1, "none")])
def test_an_untrained_exit_classifier_is_never_offered(
    divide: str | None, labels: int, policy: str, tmp_path: Path
):
    checkpoint = write_berxit(tmp_path / "checkpoint", layers=2, labels=labels, tokenizer=None)
    rewrite(checkpoint, divide=divide)
    description = load(checkpoint).description
    assert (description.policy, description.extras) == (policy, ())
    assert bool(description.notes) == (labels == 1)
    with pytest.raises(ExportError, match=r"learned needs exits trained for it.*ends in -lte"):
        load(checkpoint, policy="learned")


def test_the_albert_of_berxit_does_not_learn_to_exit(tmp_path: Path):
    checkpoint = write_berxit(tmp_path / "checkpoint", backbone="albert", divide="alternate-lte")
    assert load(checkpoint).description.policy == "entropy-exp"
    with pytest.raises(ExportError, match="ALBERT"):
        load(checkpoint, policy="learned")


INPUTS = {
    "input_ids": torch.tensor([[2, 9, 8, 30, 3]]),
    "attention_mask": torch.ones(1, 5, dtype=torch.long),
    "token_type_ids": torch.zeros(1, 5, dtype=torch.long),
}


@pytest.mark.parametrize("format_, consulted", [(berxit, False), (deebert, True)])
@pytest.mark.parametrize("wanted", [None, True, False])
@torch.no_grad()
def test_the_last_highway_is_asked_by_wish_or_as_the_paper_does(
    format_, consulted: bool, wanted: bool | None, tmp_path: Path
):
    write = write_berxit if format_ is berxit else write_deebert
    opened = open_checkpoint(write(tmp_path / "checkpoint", layers=3))
    tensors = opened.load_tensors()
    hidden, last = format_.load(opened, LoadOptions(last_highway=wanted))(**INPUTS)[-1]
    asked = consulted if wanted is None else wanted
    assert set(last) == ({"logits", OVERRIDE} if asked else {"logits"})
    names = {"logits": ("bert.pooler.dense", "classifier")}
    highway = "bert.encoder.highway.2"
    names[OVERRIDE] = (f"{highway}.pooler.dense", f"{highway}.classifier")
    for name, logits in last.items():
        x = hidden[:, 0]
        for step, activation in zip(names[name], (torch.tanh, lambda x: x), strict=True):
            x = activation(x @ tensors[f"{step}.weight"].T + tensors[f"{step}.bias"])
        torch.testing.assert_close(logits, x)


@pytest.mark.parametrize(
    "missing",
    [
        "bert.encoder.highway.1.pooler.dense.bias",
        "bert.encoder.highway.0.classifier.weight",
        "bert.encoder.lte_classifier.weight",
        "bert.encoder.layer.1.output.dense.weight",
        "bert.pooler.dense.weight",
        "classifier.weight",
    ],
)
def test_a_missing_tensor_is_named(missing: str, tmp_path: Path):
    checkpoint = write_berxit(tmp_path / "checkpoint", layers=2, divide="alternate-lte")
    rewrite(checkpoint, lambda tensors: {k: t for k, t in tensors.items() if k != missing})
    with pytest.raises(CheckpointError, match=missing.replace(".", r"\.")):
        load(checkpoint)


def test_a_wrong_exit_classifier_is_refused_by_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    checkpoint = write_berxit(tmp_path / "checkpoint", layers=2, divide="alternate-lte")
    name = "bert.encoder.lte_classifier.weight"
    rewrite(checkpoint, lambda tensors: tensors | {name: torch.zeros(2, 32)})
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle")
    assert outcome.code == 2
    assert f"{name} has shape [2, 32], expected [1, 32]" in sentence(outcome)
    assert not (tmp_path / "bundle").exists()

"""BERxiT checkpoints, exported and answered as the authors' loop does."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints import write_deebert
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import berxit, deebert
from effbert.exporter.models.exit_model import OVERRIDE
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime import Session
from effbert.runtime.errors import CheckpointError, ExportError
from exit_checks import (
    batch,
    check_decisions,
    check_default_knobs,
    check_every_exit,
    check_minimal_host,
    check_row_independence,
    run,
)
from export_command import run_command, sentence
from matrices import slow_but
from systems.berxit_checkpoint import write_berxit
from systems.berxit_reference import BerxitReference
from systems.edits import claims, rewrite
from systems.exported import Exported, export_new

NEVER = -math.inf
CHECKPOINTS: dict[str, dict[str, object]] = {
    "entropy": {"backbone": "bert", "noise": True},
    "learned": {"backbone": "roberta", "divide": "alternate-lte", "labels": 2, "seed": 3},
    "learned-regression": {"backbone": "distilbert", "divide": "alternate-lte", "labels": 1},
}
every_checkpoint = pytest.mark.parametrize("name", slow_but(CHECKPOINTS, "entropy", "learned"))


def threshold_of(model: Exported, q: float) -> float:
    """The value below which a share `q` of the signals of all early exits falls."""
    signals = [model.reference.signals(row)[:-1] for row in model.rows]
    return float(np.quantile(signals, q))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    @cache
    def make(name: str) -> Exported:
        options = CHECKPOINTS[name]
        family = "roberta" if options["backbone"] == "roberta" else "bert"
        folder = tmp_path_factory.mktemp(name)
        return export_new(folder, write_berxit, BerxitReference, family, **options)

    return make


@pytest.fixture
def model(exported: Callable[[str], Exported], name: str) -> Exported:
    return exported(name)


@every_checkpoint
def test_every_exit_answers_like_the_reference(model: Exported):
    check_every_exit(model.session, model.reference, model.rows)


@every_checkpoint
@pytest.mark.parametrize("q", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("sizes", [(1,), (16, 3, 8)], ids=["alone", "batches"])
def test_rows_leave_where_the_loop_says(model: Exported, q: float, sizes: tuple[int, ...]):
    knobs = {"threshold": threshold_of(model, q)}
    met = check_decisions(model.session, model.reference, model.rows, knobs, sizes)
    assert len(met) >= 3


@every_checkpoint
def test_every_exit_may_have_its_own_threshold(model: Exported):
    signals = np.array([model.reference.signals(row) for row in model.rows])
    thresholds = [float(np.quantile(column, 0.4)) for column in signals.T]
    thresholds[1] = NEVER
    met = check_decisions(
        model.session, model.reference, model.rows, {"threshold": thresholds}, (16, 1)
    )
    assert met == [1, 3, 4]


@every_checkpoint
def test_the_last_highway_never_answers(model: Exported):
    knobs = {"threshold": [NEVER, NEVER, NEVER, math.inf]}
    found = run(model.session, model.rows[:40], knobs, (16,))
    assert (found["exit_layer"] == 4).all()
    for logits, row in zip(found["logits"], model.rows, strict=False):
        heads = model.reference.heads(row)
        np.testing.assert_allclose(logits, heads.main, atol=1e-4, rtol=0)
        assert (heads.main - heads.highways[-1]).abs().max() > 1e-3


@every_checkpoint
def test_default_knobs_never_stop_a_row(model: Exported):
    check_default_knobs(model.session, model.reference, model.rows[:50])


@every_checkpoint
def test_rows_do_not_depend_on_each_other(model: Exported):
    knobs = {"threshold": threshold_of(model, 0.3)}
    check_row_independence(model.session, model.reference, model.rows, knobs)


@every_checkpoint
def test_the_minimal_host_agrees(model: Exported):
    for threshold in (threshold_of(model, 0.3), [threshold_of(model, 0.4)] * 4):
        check_minimal_host(model.session, model.rows[:60], {"threshold": threshold})
    check_minimal_host(model.session, model.rows[:10], {})


@every_checkpoint
def test_a_signal_at_the_threshold_goes_on(model: Exported):
    row = model.rows[0]
    signal = float(model.session.run(batch([row]), {"threshold": math.inf}).signal[0])
    above = float(np.nextafter(np.float32(signal), np.float32(math.inf)))
    layers = [
        int(model.session.run(batch([row]), {"threshold": [t, *[NEVER] * 3]}).exit_layer[0])
        for t in (signal, above)
    ]
    assert layers == [4, 1]


@every_checkpoint
def test_the_manifest_tells_where_the_bundle_comes_from(model: Exported, name: str):
    manifest = model.session.bundle.manifest
    assert manifest.source.format == "berxit"
    assert manifest.source.architecture == CHECKPOINTS[name]["backbone"]
    assert "BERxiT" in manifest.source.paper
    assert manifest.policy.name == ("entropy-exp" if name == "entropy" else "learned")
    assert manifest.problem == ("regression" if name.endswith("regression") else "single-label")
    assert [segment.layer for segment in manifest.segments] == [1, 2, 3, 4]
    assert manifest.padding_free
    assert manifest.parity is not None
    assert not (model.checkpoint / "pwned").exists()


def test_two_paths_are_enough_for_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    checkpoint = write_berxit(tmp_path / "checkpoint", layers=2, divide="all-lte")
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle")
    assert outcome.code == 0, outcome.err
    assert "berxit" in outcome.out
    assert Session(tmp_path / "bundle").bundle.manifest.policy.name == "learned"


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

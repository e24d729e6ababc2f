"""Global Past-Future checkpoints, exported and answered as the authors' loop does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import choose_format, gpfee
from effbert.exporter.heads.past_future import PastFutureHeads
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError
from exit_rules import entropy_naive
from export_command import run_command, sentence
from matrices import slow_but
from systems.case import ExportedCase
from systems.cases import models_of
from systems.edits import claims, rewrite
from systems.exported import without
from systems.gpfee_checkpoint import write_gpfee
from systems.gpfee_reference import past_future

BACKBONES = ("bert", "roberta", "albert")


@models_of("gpfee")
def test_two_running_sums_cross_each_cut(model: ExportedCase):
    classes = len(model.session.bundle.manifest.labels)
    for segment in model.session.bundle.manifest.segments[:-1]:
        made = {item.name: item.axes for item in segment.outputs}
        sums = [made[source] for name, source in segment.carries.items() if name != "hidden"]
        assert sums == [["batch", classes]] * 2


# --- the heads' arithmetic ----------------------------------------------------------------------

STATES = torch.tensor([[0.2, -0.4], [0.5, 0.1], [-0.3, 0.6]])
PREDICT = (
    torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[0.5, -1], [1, 0.25]], [[-0.5, 0.5], [0.75, -0.25]]]),
    torch.tensor([[0.0, 0.0], [0.1, -0.1], [0.05, 0.2]]),
)
CLASSIFY = (
    torch.tensor(
        [
            [[1, -1, 0.5, -0.5], [0.5, 2, -1, 1]],
            [[-1, 0.5, 0.25, 0.75], [1, -2, 0.5, 0]],
            [[0.3, -0.3, 1, -1], [0.7, 0.1, -0.2, 0.4]],
        ]
    ),
    torch.tensor([[0.1, 0.2, 0, 0], [0, -0.1, 0.1, 0], [0.05, 0, 0, -0.1]]),
)
GATE = (torch.tensor([[1, -0.5], [0.5, 1]]), torch.tensor([0.1, -0.2]))
LOGITS = torch.tensor([[0.157936, 0.218522], [-0.151983, -0.736514], [0.086604, -0.687229]])
ENTROPIES = torch.tensor([0.692689, 0.652195, 0.623547])


def layer_of(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    """x W + b with W [in, out]."""
    layer = nn.Linear(*weight.shape)
    layer.weight, layer.bias = nn.Parameter(weight.T), nn.Parameter(bias)
    return layer


def heads_after(*layers: int) -> PastFutureHeads:
    """The worked example's heads, with exits after these layers."""
    predictors = [layer_of(*each) for each in zip(*PREDICT, strict=True)]
    classifiers = [layer_of(*each) for each in zip(*CLASSIFY, strict=True)]
    return PastFutureHeads(
        layers, [nn.Identity()] * 3, predictors, classifiers, layer_of(GATE[0].T, GATE[1])
    )


def test_the_reference_computes_the_worked_example():
    exits = torch.stack(past_future([*STATES], PREDICT, CLASSIFY, GATE))
    torch.testing.assert_close(exits, LOGITS, atol=1e-6, rtol=0)
    torch.testing.assert_close(entropy_naive(exits), ENTROPIES, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("layers", [(1, 2, 3), (2,), (1, 3), (3,)])
def test_chosen_exits_still_look_at_all_layers(layers: tuple[int, ...]):
    outputs = heads_after(*layers).exits(STATES[:, None].unbind())
    for layer, output in zip(layers, outputs, strict=True):
        torch.testing.assert_close(output["logits"][0], LOGITS[layer - 1], atol=1e-6, rtol=0)


# --- recognition and loading --------------------------------------------------------------------


def load(checkpoint: Path, **options: object):
    return gpfee.load(open_checkpoint(checkpoint), LoadOptions(**options))


@pytest.mark.parametrize("backbone", slow_but(BACKBONES, "bert"))
@pytest.mark.parametrize("parallel", ["", "module."])
def test_past_future_is_recognised_and_nothing_else(backbone: str, parallel: str, tmp_path: Path):
    checkpoint = write_gpfee(tmp_path / "checkpoint", backbone=backbone, layers=2, noise=True)
    rewrite(checkpoint, lambda tensors: {parallel + k: t for k, t in tensors.items()})
    assert claims(checkpoint) == ["gpfee"]
    opened = open_checkpoint(checkpoint)
    assert choose_format("auto", opened.name, opened.shapes, opened.config).name == "gpfee"
    assert not (checkpoint / "pwned").exists()


@pytest.mark.parametrize("backbone", slow_but(BACKBONES, "bert"))
def test_a_regression_has_no_entropy_to_stop_by(backbone: str, tmp_path: Path):
    checkpoint = write_gpfee(tmp_path / "checkpoint", backbone=backbone, layers=2, labels=1)
    description = load(checkpoint).description
    assert (description.problem, description.policy) == ("regression", "none")


@pytest.mark.parametrize(
    "missing",
    ["bert.poolers.1.dense.bias", "bert.pred_layer.bias", "classifiers.weight", "classifiers.bias"],
)
def test_a_missing_tensor_is_named(missing: str, tmp_path: Path):
    checkpoint = write_gpfee(tmp_path / "checkpoint", layers=2)
    rewrite(checkpoint, without(missing))
    with pytest.raises(CheckpointError, match=missing.replace(".", r"\.")):
        load(checkpoint)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("bert.pred_layer.weight", (3, 32, 32)),
        ("bert.pred_layer.bias", (2, 31)),
        ("classifiers.weight", (2, 32, 5)),
        ("classifiers.weight", (32, 6)),
        ("classifiers.gate_proj.weight", (2, 3)),
        ("classifiers.gate_proj.bias", (0,)),
    ],
)
def test_a_tensor_of_the_wrong_shape_is_refused(
    name: str, shape: tuple[int, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    checkpoint = write_gpfee(tmp_path / "checkpoint", layers=2)
    rewrite(checkpoint, lambda tensors: tensors | {name: torch.zeros(shape)})
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle")
    assert outcome.code == 2
    assert name in sentence(outcome)
    assert not (tmp_path / "bundle").exists()

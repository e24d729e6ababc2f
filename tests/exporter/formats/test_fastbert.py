"""FastBERT checkpoints of both layouts, exported and answered as the authors' loops do."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints import write_pabee
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.encoders.uer import UerNorm
from effbert.exporter.formats import fastbert
from effbert.exporter.models.load_options import LoadOptions
from effbert.exporter.policies.entropy import ENTROPY_CATEGORICAL
from effbert.exporter.policies.fastbert import ENTROPY_FASTBERT
from effbert.runtime import Session
from effbert.runtime.errors import CheckpointError
from export_command import run_command, sentence
from systems.case import ExportedCase
from systems.cases import model_named
from systems.edits import claims, rewrite
from systems.fastbert_checkpoint import write_fastbert
from systems.fastbert_reference import FastBertReference
from vocabularies import random_rows


def test_nan_stops_in_the_script_at_any_speed_and_never_in_the_package():
    logits = np.array([[0, 0], [math.nan, 0], [60, -60], [2, 0.5]], np.float32)
    expected = {  # speed -> rows that stop in the script; in the package all of these but NaN
        -math.inf: [False, True, False, False],
        1e-8: [False, True, False, False],  # u is 1.7e-7 at least
        1e-6: [False, True, True, False],
        0.8: [False, True, True, True],
    }
    for speed, stops in expected.items():
        for policy in (ENTROPY_FASTBERT, ENTROPY_CATEGORICAL):
            u = policy.signal(logits)
            fired = np.asarray(policy.fires(u, np.array(speed, np.float32)))
            wanted = np.array(stops) & (~np.isnan(u) | (policy is ENTROPY_FASTBERT))
            np.testing.assert_array_equal(fired, wanted)


@model_named("fastbert-research")
def test_the_second_text_has_a_segment_of_its_own(model: ExportedCase):
    row, types = [2, 9, 8, 3, 30, 40, 3], [0, 0, 0, 0, 1, 1, 1]
    inputs = {"input_ids": [row], "token_type_ids": [types]}
    found = model.session.run_exits(inputs)["logits"][:, 0]
    expected = np.stack([x.numpy() for x in model.reference.exits(row, types)])
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    first = np.stack([x.numpy() for x in model.reference.exits(row)])
    assert np.abs(found - first).max() > 1e-2


@model_named("fastbert-research", "fastbert-pypi")
def test_only_the_script_has_two_segments(model: ExportedCase):
    manifest, research = model.session.bundle.manifest, model.name == "fastbert-research"
    assert manifest.limits.type_vocab_size == (2 if research else 0)
    assert ("token_type_ids" in {item.name for item in manifest.inputs}) == research
    assert (manifest.tokenizer is not None) == research


def test_the_unbiased_deviation_normalizes_with_epsilon_outside():
    norm = UerNorm(torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.zeros(4)))
    x = torch.tensor([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 0.0, 2e-6]])
    expected = torch.tensor(
        [[-2.0, -1.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0], [-0.25, -0.25, -0.25, 0.75]]
    )
    expected[0] /= math.sqrt(14 / 3) + 1e-6
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.slow
def test_two_paths_are_enough_for_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    checkpoint = write_fastbert(tmp_path / "checkpoint", layout="pypi", layers=2)
    outcome = run_command(capfd, checkpoint / "fastbert.bin", tmp_path / "bundle")
    assert outcome.code == 0, outcome.err
    assert "fastbert" in outcome.out
    assert Session(tmp_path / "bundle").bundle.manifest.policy.name == "entropy-categorical"


def test_weights_without_a_config_say_what_to_put_beside_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    checkpoint = write_fastbert(tmp_path / "checkpoint", layers=1)
    (checkpoint / "config.json").unlink()
    outcome = run_command(capfd, checkpoint / "fastbert.bin", tmp_path / "bundle")
    assert outcome.code == 2
    assert "config.json beside the weights" in sentence(outcome)


# --- recognition and loading --------------------------------------------------------------------


def load(checkpoint: Path, **options: object):
    return fastbert.load(open_checkpoint(checkpoint), LoadOptions(**options))


@pytest.mark.parametrize("layout", ["research", "pypi"])
@pytest.mark.parametrize("noise", [False, True])
def test_fastbert_is_recognised_and_nothing_else(layout: str, noise: bool, tmp_path: Path):
    assert claims(write_fastbert(tmp_path / "fastbert", layout=layout, noise=noise)) == ["fastbert"]
    assert claims(write_pabee(tmp_path / "pabee")) == ["pabee"]


@pytest.mark.parametrize("heads", [None, 0, 5, "4", 4.0, True])
def test_the_attention_heads_are_asked_for(
    heads: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    checkpoint = rewrite(write_fastbert(tmp_path / "checkpoint", layers=1), heads_num=heads)
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle")
    assert outcome.code == 2
    assert "take heads_num from the UER config" in sentence(outcome)


@pytest.mark.parametrize("pooling, said", [("mean", "wrong axis"), ("cls", "first, last and max")])
def test_poolings_that_cannot_be_right_are_refused(pooling: str, said: str, tmp_path: Path):
    checkpoint = write_fastbert(tmp_path / "checkpoint", layers=1, pooling=pooling)
    with pytest.raises(CheckpointError, match=said):
        load(checkpoint)


@pytest.mark.parametrize("pooling", ["first", "last", "max"])
@torch.no_grad()
def test_every_pooling_answers_like_the_reference(pooling: str, tmp_path: Path):
    checkpoint = write_fastbert(tmp_path / "checkpoint", pooling=pooling)
    model, reference = load(checkpoint).eval(), FastBertReference(checkpoint)
    assert model.description.padding_free == (pooling == "first")
    for row in random_rows("bert", 20):
        ids = torch.tensor([row])
        found = model(ids, torch.ones_like(ids), torch.zeros_like(ids))
        for (_, outputs), expected in zip(found, reference.exits(row), strict=True):
            torch.testing.assert_close(outputs["logits"][0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["layers_num", "hidden_size", "feedforward_size"])
def test_a_config_of_another_model_is_refused(name: str, tmp_path: Path):
    checkpoint = rewrite(write_fastbert(tmp_path / "checkpoint", layers=2), **{name: 7})
    with pytest.raises(CheckpointError, match=f"{name} 7, the weights have"):
        load(checkpoint)


def test_label_names_may_be_added_to_the_config(tmp_path: Path):
    checkpoint = write_fastbert(tmp_path / "checkpoint", layers=1, labels=2)
    assert load(checkpoint).description.labels == ("LABEL_0", "LABEL_1")
    rewrite(checkpoint, id2label={"0": "bad", "1": "good"})
    assert load(checkpoint).description.labels == ("bad", "good")


@pytest.mark.parametrize(
    "missing, named",
    [
        ("classifiers.1.output_layer_2.bias", None),
        ("classifiers.0.self_atten.linear_layers.2.weight", None),
        ("embedding.segment_embedding.weight", None),
        ("embedding.word_embedding.weight", None),
        ("encoder.transformer.0.feed_forward.linear_1.weight", None),
        ("encoder.transformer.1.layer_norm_2.gamma", "encoder.layer.1.output.LayerNorm.weight"),
    ],
)
def test_a_missing_tensor_is_named(missing: str, named: str | None, tmp_path: Path):
    checkpoint = write_fastbert(tmp_path / "checkpoint", layers=2)
    rewrite(checkpoint, lambda tensors: {k: t for k, t in tensors.items() if k != missing})
    with pytest.raises(CheckpointError, match=(named or missing).replace(".", r"\.")):
        load(checkpoint)


@pytest.mark.parametrize("name, shape", [("output_layer_0", (5, 32)), ("output_layer_2", (4, 128))])
def test_a_classifier_of_another_shape_is_refused(
    name: str, shape: tuple[int, int], tmp_path: Path
):
    checkpoint = write_fastbert(tmp_path / "checkpoint", layers=2)
    changed = {
        f"classifiers.1.{name}.weight": torch.zeros(shape),
        f"classifiers.1.{name}.bias": torch.zeros(shape[0]),
    }
    rewrite(checkpoint, lambda tensors: tensors | changed)
    with pytest.raises(CheckpointError, match=rf"classifiers\.1\.{name}"):
        load(checkpoint)

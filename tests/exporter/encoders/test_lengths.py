"""Bundles whose rows get shorter on the way up, against a loop over one unpadded row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import minimal_host
from checkpoints import write_deebert
from effbert.exporter import export
from effbert.exporter.encoders.length_drop import DropRule, LengthDropEncoder
from effbert.runtime import Session
from effbert.runtime.checks.replay import validate
from effbert.runtime.errors import ExportError, InputError
from exit_checks import LOGITS_ATOL, ROW_ATOL
from families import write_family
from matrices import slow_but
from systems.length_reference import LengthReference, Shortened
from systems.length_rows import batch, rows

LAYERS = 3
CONFIGURATIONS: list[Sequence[float]] = [
    [1.0] * 3,
    [0.8, 0.5, 0.3],
    [0.5, 0.1, 0.1],
    [20, 10, 3],
    [2, 2, 2],
    [3, 1, 1],
]
DISTILBERT = {"n_layers": LAYERS, "max_position_embeddings": 64}
BERT = {"num_hidden_layers": LAYERS, "max_position_embeddings": 64}


def plain(family: str, task: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_family(folder, family, task, **(DISTILBERT if family == "distilbert" else BERT))
        return folder

    return write


KINDS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], dict[str, Any]]] = {
    "exits": (lambda folder: write_deebert(folder, layers=LAYERS, tokenizer="fast"), {}, {}),
    "distilbert answers": (plain("distilbert", "question-answering"), {}, {"keep_first": False}),
    "bert labels": (plain("bert", "token-classification"), {}, {}),
    "power": (
        plain("bert", "text-classification"),
        {"retention": [24, 12, 4], "length_adaptive": False},
        {"ignore_self": True},
    ),
    "power with exits": (
        lambda folder: write_deebert(folder, layers=LAYERS, tokenizer="fast"),
        {"retention": [24, 12, 4], "length_adaptive": False},
        {"ignore_self": True},
    ),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SimpleNamespace]:
    @cache
    def make(kind: str) -> SimpleNamespace:
        write, options, rule = KINDS[kind]
        folder = tmp_path_factory.mktemp("lengths")
        checkpoint = write(folder / "checkpoint")
        export(checkpoint, folder / "bundle", **{"length_adaptive": True} | options)
        session = Session(folder / "bundle", threads=1)
        return SimpleNamespace(
            checkpoint=checkpoint,
            session=session,
            reference=LengthReference(checkpoint, **rule),
            task=session.bundle.manifest.task,
        )

    return make


def answers(model: SimpleNamespace, found: Shortened) -> dict[str, np.ndarray]:
    """What the head of the checkpoint says of the last layer."""
    bert, last = model.reference.bert, found.restored[-1]
    if model.task == "question-answering":
        both = bert.linear("qa_outputs", last).numpy()
        return {"start_logits": both[:, 0], "end_logits": both[:, 1]}
    if model.task == "token-classification":
        return {"logits": bert.linear("classifier", last).numpy()}
    pooled = torch.tanh(bert.linear("bert.pooler.dense", last[0]))
    return {"logits": bert.linear("classifier", pooled).numpy()}


@pytest.mark.parametrize("kind", slow_but(KINDS, "exits"))
def test_a_deep_look_finds_nothing(exported, kind: str):
    assert validate(exported(kind).session.bundle.path, deep=True).nodes


@pytest.mark.parametrize("kind", slow_but(KINDS, "exits"))
@pytest.mark.parametrize("lengths", CONFIGURATIONS, ids=str)
def test_rows_are_answered_as_if_they_were_alone(exported, kind: str, lengths: Sequence[float]):
    model, texts = exported(kind), rows(60)
    compared = 0
    for start in range(0, len(texts), 12):
        part = texts[start : start + 12]
        result = model.session.run(batch(part, extra=start // 12), {"lengths": list(lengths)})
        for i, row in enumerate(part):
            found = model.reference.run(row, lengths)
            if found.gap < 1e-5:
                continue
            compared += 1
            for name, expected in answers(model, found).items():
                answer = result.outputs[name][i]
                answer = answer[: len(row)] if model.task != "text-classification" else answer
                np.testing.assert_allclose(answer, expected, atol=LOGITS_ATOL, rtol=0)
    assert compared >= 55


@pytest.mark.parametrize("lengths", CONFIGURATIONS[1:5], ids=str)
def test_exits_and_lengths_combine(exported, lengths: Sequence[float]):
    model, texts = exported("exits"), rows(40, seed=1)
    bert = model.reference.bert
    exits = model.session.run(batch(texts), {"lengths": list(lengths), "threshold": 0.7})
    assert len(set(exits.exit_layer.tolist())) >= 2
    for i, row in enumerate(texts):
        found = model.reference.run(row, lengths)
        layer = int(exits.exit_layer[i])
        if layer == LAYERS or found.gap < 1e-5:
            continue
        name = f"bert.encoder.highway.{layer - 1}"
        pooled = torch.tanh(bert.linear(f"{name}.pooler.dense", found.states[layer - 1][0]))
        expected = bert.linear(f"{name}.classifier", pooled)
        np.testing.assert_allclose(exits.logits[i], expected, atol=LOGITS_ATOL, rtol=0)


@pytest.mark.parametrize("kind", slow_but(KINDS, "exits"))
def test_rows_do_not_depend_on_batch_or_padding(exported, kind: str):
    model, texts = exported(kind), rows(24, seed=2)
    knobs = {"lengths": [0.7, 0.5, 0.3]}
    together = model.session.run(batch(texts, extra=7), knobs)
    for i, row in enumerate(texts):
        alone = model.session.run(batch([row]), knobs)
        for name, value in alone.outputs.items():
            found = together.outputs[name][i]
            found = found[: len(row)] if model.task != "text-classification" else found
            np.testing.assert_allclose(found, value[0], atol=ROW_ATOL, rtol=0)


@pytest.mark.parametrize("kind", slow_but(["exits", "bert labels"], "exits"))
def test_the_minimal_host_agrees(exported, kind: str):
    session, inputs = exported(kind).session, batch(rows(20, seed=3))
    for lengths in ([0.8, 0.5, 0.2], [9, 6, 3]):
        ours = session.run(inputs, {"lengths": lengths})
        theirs = minimal_host.run(str(session.bundle.path), inputs, {"lengths": lengths})
        real = inputs["attention_mask"] == 1
        pick = real if kind == "bert labels" else slice(None)
        np.testing.assert_allclose(theirs["logits"][pick], ours.logits[pick], atol=ROW_ATOL)


def test_without_the_knob_nothing_is_dropped(exported):
    model, texts = exported("exits"), rows(20, seed=4)
    full = model.session.run(batch(texts), {"lengths": 1.0})
    default = model.session.run(batch(texts))
    np.testing.assert_array_equal(full.logits, default.logits)


@pytest.mark.parametrize("lengths, heads", [([9] * 3, 0), ([9, 8, 8], 4)], ids=str)
def test_shares_are_computed_only_where_tokens_leave(exported, lengths: list[int], heads: int):
    path = exported("exits").session.bundle.path / "segment-01.onnx"
    model = onnx.load(path)
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    model.graph.output.append(onnx.ValueInfoProto(name=softmax.output[0]))
    (mask,) = (each.name for each in model.graph.input if each.name.startswith("carry_"))
    feeds = {
        "hidden": np.random.default_rng(6).standard_normal((2, 9, 32)).astype(np.float32),
        mask: np.arange(9) < [[5], [9]],
        "attention_mask": np.ones((2, 9), np.int64),
        "lengths": np.array(lengths, np.float32) + 0.5,
        "threshold": np.float32(0)[...],
    }
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (shares,) = session.run([softmax.output[0]], feeds)
    assert shares.shape == (2, heads, 9, 9)


@pytest.mark.slow
def test_a_retention_configuration_is_the_default(exported):
    model, texts = exported("power"), rows(20, seed=5)
    default = model.session.run(batch(texts))
    named = model.session.run(batch(texts), {"lengths": [24, 12, 4]})
    np.testing.assert_array_equal(default.logits, named.logits)
    full = model.session.run(batch(texts), {"lengths": 1.0})
    assert np.abs(full.logits - default.logits).max() > 1e-2


def test_equal_tokens_are_kept_from_the_left():
    shares = torch.full((1, 2, 5, 5), 0.2)
    real = torch.tensor([[True, True, True, True, False]])
    for keep_first in (True, False):
        encoder = torch.nn.Module()
        encoder.config = None
        dropping = LengthDropEncoder(encoder, None, DropRule(keep_first=keep_first))
        ranked = dropping._most_attended(shares, real, torch.tensor([3]))
        assert ranked.tolist() == [[0, 1, 2]]


def test_padding_neither_votes_nor_competes():
    encoder = torch.nn.Module()
    encoder.config = None
    dropping = LengthDropEncoder(encoder, None, DropRule())
    shares = torch.zeros(1, 1, 5, 5)
    shares[0, 0, :3, 1] = 1.0  # the real tokens look at token 1
    shares[0, 0, 3:, 2] = 9.0  # padding looks at token 2
    real = torch.tensor([[True, True, True, False, False]])
    ranked = dropping._most_attended(shares, real, torch.tensor([2]))
    assert ranked.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    "lengths, message",
    [
        ([0.5, 0.6, 0.5], r"got 0\.6 for layer 2 after 0\.5"),
        ([4, 5, 5], "got 5 for layer 2 after 4"),
        ([0.5, 0.5], "got 2 values, expected one or 3, one an encoder layer"),
        ([4, 0, 0], "got 0, expected a count of tokens"),
        (-0.5, r"got -0\.5, expected a count of tokens"),
        (1.5, r"got 1\.5, expected a count of tokens"),
        ([8, 0.5, 0.5], "counts and shares in one list"),
        (float("nan"), "got nan, expected"),
        ("half", "got 'half', expected"),
    ],
)
def test_lengths_that_make_no_sense_are_refused(exported, lengths: Any, message: str):
    with pytest.raises(InputError, match=message):
        exported("exits").session.run(batch(rows(2)), {"lengths": lengths})


def test_models_with_other_layers_are_refused(tmp_path: Path):
    write_family(tmp_path / "in", "mobilebert", "text-classification")
    with pytest.raises(ExportError, match="its layers are not BERT's"):
        export(tmp_path / "in", tmp_path / "out", length_adaptive=True)


def test_a_retention_of_another_depth_is_refused(tmp_path: Path):
    write_family(tmp_path / "in", "bert", "text-classification")
    with pytest.raises(InputError, match="got 3 counts for 2 encoder layers"):
        export(tmp_path / "in", tmp_path / "out", retention=[9, 5, 2])

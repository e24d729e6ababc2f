"""`--pad-to`: padding votes and competes, as in the code of the papers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import minimal_host
from checkpoints import write_deebert
from effbert.exporter import export
from effbert.runtime import Session
from effbert.runtime.errors import InputError
from effbert.runtime.points.tuning import Tuning, tune
from exit_checks import LOGITS_ATOL, ROW_ATOL
from export_command import run_command, sentence
from families import write_family
from matrices import slow_but
from systems.exported import inspect
from systems.padded_lengths_reference import Padded, PaddedReference

pytestmark = pytest.mark.slow  # every test exports models of its own

LAYERS, LENGTH = 3, 40
CONFIGURATIONS: list[Sequence[float]] = [[32, 20, 5], [0.9, 0.5, 0.2], [30, 3, 2]]
DEPTH = {"bert": "num_hidden_layers", "distilbert": "n_layers"}
TASKS = {"classifies": "text-classification", "answers": "question-answering"}
POWER = {"retention": [32, 20, 5], "length_adaptive": False}
# name -> options of the export, and the rule of the reference
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bert answers": ({}, {"keep_first": False}),
    "distilbert classifies": ({}, {}),
    "bert classifies, power": (POWER, {"power": True}),
    "exits": ({}, {}),
}


def write(kind: str, folder: Path) -> Path:
    if kind == "exits":
        return write_deebert(folder, layers=LAYERS, tokenizer="fast")
    family, verb = kind.split(",")[0].split()
    write_family(folder, family, TASKS[verb], **{DEPTH[family]: LAYERS})
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SimpleNamespace]:
    @cache
    def make(kind: str) -> SimpleNamespace:
        options, rule = KINDS[kind]
        folder = tmp_path_factory.mktemp("padded")
        checkpoint = write(kind, folder / "checkpoint")
        export(checkpoint, folder / "bundle", pad_to=LENGTH, **{"length_adaptive": True} | options)
        return SimpleNamespace(
            checkpoint=checkpoint,
            bundle=folder / "bundle",
            session=Session(folder / "bundle", threads=1),
            reference=PaddedReference(checkpoint, LENGTH, **rule),
        )

    return make


@pytest.fixture(scope="module")
def unpadded(exported, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The checkpoint `exits` with padding left out of it."""
    bundle = tmp_path_factory.mktemp("unpadded") / "bundle"
    export(exported("exits").checkpoint, bundle, length_adaptive=True)
    return Session(bundle, threads=1)


def rows(count: int, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(5, 60, random.integers(2, LENGTH)).tolist() for _ in range(count)]


def batch(part: Sequence[Sequence[int]], width: int | None = None) -> dict[str, np.ndarray]:
    shape = len(part), width or max(map(len, part))
    ids, mask = np.full(shape, 7, np.int64), np.zeros(shape, np.int64)
    for i, row in enumerate(part):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def answers(model: SimpleNamespace, found: Padded, tokens: int) -> dict[str, np.ndarray]:
    bert, session = model.reference.bert, model.session
    if session.bundle.manifest.task == "question-answering":
        both = bert.linear("qa_outputs", found.restored[:tokens]).numpy()
        return {"start_logits": both[:, 0], "end_logits": both[:, 1]}
    first = found.states[-1][0]
    if session.bundle.manifest.source.architecture == "distilbert":
        pooled = torch.relu(bert.linear("pre_classifier", first))
    else:
        pooled = torch.tanh(bert.linear("bert.pooler.dense", first))
    return {"logits": bert.linear("classifier", pooled).numpy()}


def real_part(value: np.ndarray, row: Sequence[int], name: str) -> np.ndarray:
    return value if name == "logits" else value[: len(row)]


@pytest.mark.parametrize("kind", slow_but(KINDS, "exits"))
@pytest.mark.parametrize("lengths", CONFIGURATIONS, ids=str)
def test_answers_are_those_of_the_papers_code(exported, kind: str, lengths: Sequence[float]):
    model, texts = exported(kind), rows(36)
    compared = 0
    for start in range(0, len(texts), 12):
        part = texts[start : start + 12]
        width = LENGTH if start else None
        result = model.session.run(batch(part, width), {"lengths": list(lengths)})
        for i, row in enumerate(part):
            found = model.reference.run(row, lengths)
            if found.gap < 1e-5:
                continue
            compared += 1
            for name, expected in answers(model, found, len(row)).items():
                answer = real_part(result.outputs[name][i], row, name)
                np.testing.assert_allclose(answer, expected, atol=LOGITS_ATOL, rtol=0)
    assert compared >= 30


@pytest.mark.parametrize("lengths", CONFIGURATIONS, ids=str)
def test_exits_see_the_same_tokens(exported, lengths: Sequence[float]):
    model, texts = exported("exits"), rows(30, seed=1)
    bert = model.reference.bert
    result = model.session.run(batch(texts), {"lengths": list(lengths), "threshold": 0.7})
    assert len(set(result.exit_layer.tolist())) >= 2
    for i, row in enumerate(texts):
        found, layer = model.reference.run(row, lengths), int(result.exit_layer[i])
        if layer == LAYERS or found.gap < 1e-5:
            continue
        name = f"bert.encoder.highway.{layer - 1}"
        pooled = torch.tanh(bert.linear(f"{name}.pooler.dense", found.states[layer - 1][0]))
        expected = bert.linear(f"{name}.classifier", pooled)
        np.testing.assert_allclose(result.logits[i], expected, atol=LOGITS_ATOL, rtol=0)


@pytest.mark.parametrize("kind", slow_but(KINDS, "exits"))
def test_neither_batch_nor_the_callers_padding_matters(exported, kind: str):
    model, texts = exported(kind), rows(16, seed=2)
    knobs = {"lengths": [30, 15, 5]}
    together = model.session.run(batch(texts, LENGTH), knobs)
    for i, row in enumerate(texts):
        alone = model.session.run(batch([row]), knobs)
        for name, value in alone.outputs.items():
            found = real_part(together.outputs[name][i], row, name)
            np.testing.assert_allclose(found, value[0], atol=ROW_ATOL, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["distilbert classifies", "bert answers"])
def test_padding_may_be_anywhere(exported, kind: str):
    model, [row] = exported(kind), [list(range(10, 22))]
    knobs = {"lengths": [30, 15, 5]}
    expected = model.session.run(batch([row]), knobs)
    random = np.random.default_rng(3)
    for _ in range(5):
        columns = np.sort(random.permutation(30)[: len(row)])
        inputs = {name: np.zeros((1, 30), np.int64) for name in ("input_ids", "attention_mask")}
        inputs["input_ids"][0, columns] = row
        inputs["attention_mask"][0, columns] = 1
        found = model.session.run(inputs, knobs)
        for name, value in expected.outputs.items():
            pick = found.outputs[name][0] if name == "logits" else found.outputs[name][0, columns]
            np.testing.assert_allclose(pick, value[0], atol=ROW_ATOL, rtol=0)


def test_padding_has_votes_only_where_it_was_asked_for(exported, unpadded: Session):
    texts, both = batch(rows(20, seed=4)), (exported("exits").session, unpadded)
    for lengths, differs in ((1.0, False), ([32, 20, 5], True)):
        ours, theirs = (session.run(texts, {"lengths": lengths}).logits for session in both)
        assert (np.abs(ours - theirs).max() > 1e-2) == differs
        if not differs:
            np.testing.assert_allclose(ours, theirs, atol=LOGITS_ATOL, rtol=0)


@pytest.mark.parametrize("kind", slow_but(["exits", "bert answers"], "exits"))
def test_the_minimal_host_agrees(exported, kind: str):
    session, inputs = exported(kind).session, batch(rows(12, seed=5))
    knobs = {"lengths": [0.8, 0.5, 0.2]}
    ours = session.run(inputs, knobs)
    theirs = minimal_host.run(str(session.bundle.path), inputs, knobs)
    for name, value in ours.outputs.items():
        real = slice(None) if name == "logits" else inputs["attention_mask"] == 1
        np.testing.assert_allclose(theirs[name][real], value[real], atol=ROW_ATOL, rtol=0)


def test_longer_rows_are_refused_and_longer_texts_cut(exported):
    session = exported("exits").session
    with pytest.raises(InputError, match=f"expected integers .*2..{LENGTH}"):
        session.run({"input_ids": np.full((1, LENGTH + 1), 9)})
    [answer] = session(["a film " * LENGTH])
    assert answer.truncated


def test_every_row_costs_what_a_padded_one_costs(exported, unpadded: Session):
    model = exported("exits")
    own = (session.bundle.manifest.segments for session in (model.session, unpadded))
    for padded, plain in zip(*own, strict=True):
        constant, linear, quadratic = plain.flops
        expected = constant + linear * LENGTH + quadratic * LENGTH**2
        assert padded.flops[1:] == (0, 0)
        assert padded.flops[0] == pytest.approx(expected, rel=0.01)
    [first, *_] = inspect(model.bundle)["exits"]
    assert first["flops"]["32"] == first["flops"]["128"]


def test_tuning_for_flops_is_refused_because_they_are_known_for_one_length(
    exported, tmp_path: Path
):
    data = tmp_path / "data.csv"
    data.write_text("text,label\na film,0\n")
    with pytest.raises(InputError, match="leave --cost flops out"):
        tune(Tuning(exported("exits").bundle, data, cost="flops"))


@pytest.mark.parametrize(
    "options, said",
    [
        (("--pad-to", 20), "--pad-to needs --length-adaptive or --retention."),
        (("--pad-to", 200, "--length-adaptive"), "--pad-to: got 200, expected 2 to 64 tokens"),
        (("--pad-to", 1, "--length-adaptive"), "1 is not in the range x>=2"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: tuple[Any, ...], said: str
):
    write_family(tmp_path / "c", "bert", "text-classification", max_position_embeddings=64)
    outcome = run_command(capfd, tmp_path / "c", tmp_path / "bundle", *options)
    assert outcome.code == 2
    assert said in sentence(outcome)
    assert not (tmp_path / "bundle").exists()

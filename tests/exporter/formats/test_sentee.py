"""SENTEE and TOKEE: sentences and words leave where the authors' code lets them leave."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import minimal_host
from effbert.exporter import export
from effbert.exporter.models.token_exit import window_maximum
from effbert.runtime import Session
from effbert.runtime.errors import CheckpointError, InputError
from exit_checks import LOGITS_ATOL, NEAR_THRESHOLD, batches
from matrices import slow_but
from systems.sentee_checkpoint import word_rows, write_sentee
from systems.sentee_reference import SenteeReference

KINDS: dict[str, dict[str, object]] = {
    "sentence": {"tokenizer": "fast"},
    "frozen": {"keep_norm_same": 0},
    "renormalised": {"keep_norm_same": 1, "copy_wordpiece": "first", "seed": 2},
}
ROWS = word_rows(200)
Rows = list[tuple[list[int], list[int]]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SimpleNamespace]:
    @cache
    def make(kind: str) -> SimpleNamespace:
        folder = tmp_path_factory.mktemp(kind)
        checkpoint = write_sentee(folder / "checkpoint", **KINDS[kind])
        report = export(checkpoint, folder / "bundle")
        session = Session(folder / "bundle", threads=1)
        return SimpleNamespace(
            session=session, reference=SenteeReference(checkpoint), report=report
        )

    return make


def batch(rows: Rows, extra: int = 0) -> dict[str, np.ndarray]:
    shape = len(rows), max(len(ids) for ids, _ in rows) + extra
    arrays = {
        "input_ids": np.zeros(shape, np.int64),
        "attention_mask": np.zeros(shape, np.int64),
        "word_map": np.zeros(shape, np.int64),  # what stands at padding does not matter
    }
    for i, (ids, words) in enumerate(rows):
        arrays["input_ids"][i, : len(ids)] = ids
        arrays["attention_mask"][i, : len(ids)] = 1
        arrays["word_map"][i, : len(ids)] = words
    return arrays


def sentence_quantile(model: SimpleNamespace, q: float) -> float:
    signals = [
        max((model.reference.unsure(logits[p]).item() for p, w in enumerate(words) if w == p))
        for ids, words in ROWS
        for logits in model.reference.exits(ids)
        if max(words) >= 0
    ]
    return float(np.quantile(signals, q))


@pytest.mark.parametrize("kind", slow_but(KINDS, "sentence"))
def test_every_exit_labels_every_token_like_the_reference(exported, kind: str):
    model = exported(kind)
    for part in batches(ROWS, (1, 5, 16)):
        found = model.session.run_exits(batch(part))["logits"]
        for i, (ids, _) in enumerate(part):
            expected = np.stack(model.reference.exits(ids))
            np.testing.assert_allclose(found[:, i, : len(ids)], expected, atol=LOGITS_ATOL, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("q", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("sizes", [(1,), (16, 3, 8)], ids=["alone", "batches"])
def test_sentences_leave_where_the_least_sure_word_is_sure(exported, q: float, sizes):
    model = exported("sentence")
    threshold = sentence_quantile(model, q)
    layers = set()
    for part in batches(ROWS, sizes):
        result = model.session.run(batch(part), {"threshold": threshold})
        for i, (ids, words) in enumerate(part):
            expected = model.reference.sentence(ids, words, threshold)
            if abs(expected.signal - threshold) > NEAR_THRESHOLD:
                assert result.exit_layer[i] == expected.exit_number
                found = result.logits[i, : len(ids)]
                np.testing.assert_allclose(found, expected.logits, atol=LOGITS_ATOL, rtol=0)
                layers.add(expected.exit_number)
    assert len(layers) >= 3


def thresholds(low: float) -> list[float]:
    """The authors' vector: twice the threshold in the upper half of the layers."""
    return [low, low, 2 * low, 2 * low]


@pytest.mark.parametrize("kind", slow_but(["frozen", "renormalised"], "frozen"))
@pytest.mark.parametrize(
    "knobs",
    [
        {"threshold": thresholds(0.2), "window": 5},
        {"threshold": thresholds(0.35), "window": 1},
        {"threshold": thresholds(0.4), "window": 15},
        {"threshold": thresholds(0.3), "window": 3, "token_threshold": 0.15},
    ],
    ids=str,
)
@pytest.mark.parametrize("sizes", [(1,), (16, 3, 8)], ids=["alone", "batches"])
def test_words_leave_where_the_authors_loop_says(exported, kind: str, knobs: dict, sizes):
    model, seen, compared = exported(kind), set(), 0
    for part in batches(ROWS, sizes):
        result = model.session.run(batch(part), knobs)
        assert result.exit_layer.shape == result.logits.shape[:2]
        for i, (ids, words) in enumerate(part):
            expected = model.reference.words(ids, words, **knobs)
            if expected.margin <= NEAR_THRESHOLD:
                continue
            compared += 1
            assert {p: result.exit_layer[i, p] for p in expected.layers} == expected.layers
            for p, logits in expected.logits.items():
                np.testing.assert_allclose(result.logits[i, p], logits, atol=LOGITS_ATOL, rtol=0)
            seen |= set(expected.layers.values())
    assert compared >= 0.97 * len(ROWS)
    assert len(seen) >= 3


@pytest.mark.parametrize("kind", slow_but(["frozen", "renormalised"], "frozen"))
def test_words_do_not_depend_on_other_rows_or_padding(exported, kind: str):
    model, rows = exported(kind), ROWS[:32]
    knobs = {"threshold": thresholds(0.3), "window": 3}
    together = model.session.run(batch(rows, extra=5), knobs)
    for i, (ids, words) in enumerate(rows):
        alone = model.session.run(batch([(ids, words)]), knobs)
        places = [p for p, word in enumerate(words) if word >= 0]
        np.testing.assert_array_equal(together.exit_layer[i, places], alone.exit_layer[0, places])
        np.testing.assert_allclose(
            together.logits[i, places], alone.logits[0, places], atol=2e-6, rtol=0
        )


@pytest.mark.parametrize("kind", slow_but(KINDS, "sentence"))
def test_the_minimal_host_agrees(exported, kind: str):
    session, inputs = exported(kind).session, batch(ROWS[:40])
    inputs["word_map"][inputs["attention_mask"] == 0] = -1
    knobs = {"threshold": 0.4} if kind == "sentence" else {"threshold": thresholds(0.3)}
    ours = session.run(inputs, knobs)
    theirs = minimal_host.run(str(session.bundle.path), inputs, knobs)
    np.testing.assert_array_equal(theirs["exit_index"], ours.exit_index)
    real = inputs["attention_mask"] == 1
    layers = [
        found if kind == "sentence" else found[real]
        for found in (theirs["exit_layer"], ours.exit_layer)
    ]
    np.testing.assert_array_equal(*layers)
    np.testing.assert_allclose(theirs["logits"][real], ours.logits[real], atol=2e-6, rtol=0)


def test_an_exited_word_that_grows_unsure_holds_back_its_neighbours():
    first = torch.ones(1, 3, dtype=torch.bool)
    layers = torch.tensor([[[0.1, 0.3, 0.3]], [[0.9, 0.1, 0.1]]])  # word 0 left at the first layer
    around = [window_maximum(values, first, torch.tensor(3)) for values in layers]
    assert (around[0][0] < 0.35).tolist() == [True, True, True]
    assert (around[1][0] < 0.35).tolist() == [False, False, True]


def test_windows_count_words_and_not_pieces():
    first = torch.tensor([[False, True, False, False, True, True, False]])
    values = torch.tensor([[9.0, 1.0, 9.0, 9.0, 2.0, 3.0, 9.0]])
    around = window_maximum(values, first, torch.tensor(3))
    assert around[0][first[0]].tolist() == [2.0, 3.0, 3.0]


def test_texts_find_their_own_words(exported):
    [prediction] = exported("sentence").session(["a great unforgettable film"])
    assert len(prediction.entities) > 4
    assert prediction.exit_layer == 4


def test_a_checkpoint_without_further_training_leaves_sentence_by_sentence(exported):
    assert exported("sentence").report.policy.name == "sentence-entropy"
    assert exported("frozen").report.policy.name == "token-entropy"


def test_words_must_be_told(exported):
    with pytest.raises(InputError, match="'word_map' is missing: for each token the index"):
        exported("frozen").session.run({"input_ids": [[2, 9, 3]]})


@pytest.mark.parametrize("words", [[-1, 2, 2, -1], [-1, 1, 3, -1], [-2, 1, 2, -1], [-1, 1, 0, -1]])
def test_word_maps_must_point_back_to_first_pieces(exported, words: list[int]):
    with pytest.raises(InputError, match=r"word_map.*first piece"):
        exported("frozen").session.run({"input_ids": [[2, 9, 8, 3]], "word_map": [words]})


def test_whole_words_or_first_pieces_need_to_be_known(tmp_path: Path):
    checkpoint = write_sentee(tmp_path / "in")
    with pytest.raises(CheckpointError, match='"keep_norm_same": 0 or 1'):
        export(checkpoint, tmp_path / "out", policy="token-entropy")
    checkpoint = write_sentee(tmp_path / "in", keep_norm_same=0, copy_wordpiece="last")
    with pytest.raises(CheckpointError, match="copy_wordpiece"):
        export(checkpoint, tmp_path / "out")


def test_classifiers_that_read_more_than_bert_are_refused(tmp_path: Path):
    checkpoint = write_sentee(tmp_path / "in")
    tensors = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    torch.save(
        tensors | {"word_embedding.weight": torch.zeros(3, 4)}, checkpoint / "pytorch_model.bin"
    )
    with pytest.raises(CheckpointError, match="word_embedding"):
        export(checkpoint, tmp_path / "out")


def test_pickled_modules_are_refused_with_the_recipe(tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({}))
    torch.save(torch.nn.Linear(2, 2), folder / "epoch_3.pkl")
    torch.save({}, folder / "args.pkl")
    for place in (folder / "epoch_3.pkl", folder):
        with pytest.raises(CheckpointError, match=r"torch\.load\('epoch_3\.pkl'\)\.state_dict"):
            export(place, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_traces")
def test_tracing_data_dependent_lengths_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    checkpoint = write_sentee(tmp_path / "in", layers=2, keep_norm_same=1)
    export(checkpoint, tmp_path / "out", verify=False)
    assert capfd.readouterr() == ("", "")


def test_token_entropy_needs_words_that_leave(exported, tmp_path: Path):
    del exported
    checkpoint = write_sentee(tmp_path / "in", keep_norm_same=0)
    with pytest.raises(CheckpointError, match="--exits"):
        export(checkpoint, tmp_path / "out", exits=[2, 4])


@pytest.mark.parametrize("threshold", [-math.inf, 0.0])
def test_thresholds_at_their_lowest_compute_every_layer(exported, threshold: float):
    rows = [(ids, words) for ids, words in ROWS[:30] if max(words) >= 0]
    result = exported("frozen").session.run(batch(rows), {"threshold": threshold})
    assert (result.exit_index == 3).all()

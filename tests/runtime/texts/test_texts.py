"""Texts in, predictions out."""

import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle_edits import at, edit_manifest
from effbert.runtime import Answer, Classification, Session, TokenLabels
from effbert.runtime.bundle.parse import parse_manifest
from effbert.runtime.errors import InputError
from tiny_bundle import LABELS, MAX_LENGTH, TEXTS


class Series:
    """As pandas has them: ordered values, whose keys need not be their positions."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, key: Any) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)


def with_manifest(bundle: Path, folder: Path, **changes: Any) -> Path:
    copy = shutil.copytree(bundle, folder / "bundle")
    for path, value in changes.items():
        edit_manifest(copy, at(path, value))
    return copy


def test_a_text_is_answered_like_its_golden_tokens(
    bundles: dict[str, Path], sessions: dict[str, Session]
) -> None:
    manifest = parse_manifest((bundles["entropy"] / "effbert.json").read_bytes())
    texts = [tuple(text) if len(text) == 2 else text[0] for text in TEXTS]
    for row, answer in zip(manifest.golden, sessions["entropy"](texts), strict=True):
        logits = np.array(row.outputs["logits"][-1])
        expected = np.exp(logits) / np.exp(logits).sum()
        assert isinstance(answer, Classification)
        assert answer.label == LABELS[int(logits.argmax())]
        assert answer.labels == [answer.label]
        assert answer.score == pytest.approx(expected.max(), abs=1e-5)
        assert list(answer.scores) == LABELS
        assert list(answer.scores.values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert answer.exit_layer == 3
        assert not answer.truncated


def test_answers_come_in_the_order_of_the_texts(sessions: dict[str, Session]) -> None:
    generator = np.random.default_rng(0)
    words = "a film was not very good bad dull fun and but".split()
    texts = [" ".join(generator.choice(words, generator.integers(0, 20))) for _ in range(75)]
    together = sessions["entropy"](texts, knobs={"threshold": 0.6})
    for text, answer in zip(texts, together, strict=True):
        alone = sessions["entropy"]([text], knobs={"threshold": 0.6})[0]
        assert answer.label == alone.label
        assert answer.score == pytest.approx(alone.score, abs=1e-5)
        assert answer.exit_layer == alone.exit_layer


def test_no_texts_have_no_answers(sessions: dict[str, Session]) -> None:
    assert sessions["entropy"]([]) == []


def test_an_empty_text_is_its_special_tokens(sessions: dict[str, Session]) -> None:
    ids = sessions["entropy"].run({"input_ids": [[2, 3]]})
    [answer] = sessions["entropy"]([""])
    assert answer.signal == pytest.approx(float(ids.signal[0]), abs=1e-6)


def test_several_labels_have_a_sigmoid_each(bundles: dict[str, Path], tmp_path: Path) -> None:
    with Session(with_manifest(bundles["entropy"], tmp_path, problem="multi-label")) as session:
        [answer] = session(["a very good film"])
        logits = np.array(session.bundle.manifest.golden[0].outputs["logits"][-1])
    expected = 1 / (1 + np.exp(-logits))
    assert list(answer.scores.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert answer.labels == [n for n, p in zip(LABELS, expected, strict=True) if p >= 0.5]


def test_regression_gives_the_value_itself(bundles: dict[str, Path], tmp_path: Path) -> None:
    with Session(with_manifest(bundles["entropy"], tmp_path, problem="regression")) as session:
        [answer] = session(["a very good film"])
        row = session.bundle.manifest.golden[0].outputs["logits"][-1]
    assert list(answer.scores.values()) == pytest.approx(row, abs=1e-5)
    assert answer.score == pytest.approx(max(row), abs=1e-5)


def test_labels_without_names_are_numbered(bundles: dict[str, Path], tmp_path: Path) -> None:
    with Session(with_manifest(bundles["entropy"], tmp_path, labels=[])) as session:
        assert list(session(["a film"])[0].scores) == ["LABEL_0", "LABEL_1", "LABEL_2"]


def test_every_word_piece_gets_a_label_and_its_place(sessions: dict[str, Session]) -> None:
    texts = ["Good  film, slowly", "fun", ""]
    answers = sessions["tokens"](texts)
    assert all(isinstance(answer, TokenLabels) for answer in answers)
    pieces = [(item.token, item.start, item.end) for item in answers[0].entities]
    assert pieces == [
        ("good", 0, 4), ("film", 6, 10), (",", 10, 11), ("slow", 12, 16), ("##ly", 16, 18),
    ]  # fmt: skip
    assert [item.token for item in answers[1].entities] == ["fun"]
    assert answers[2].entities == []
    [alone] = sessions["tokens"](["fun"])
    assert alone.entities[0].label == answers[1].entities[0].label
    assert alone.entities[0].score == pytest.approx(answers[1].entities[0].score, abs=1e-5)


def test_an_answer_is_the_best_span_of_the_context(sessions: dict[str, Session]) -> None:
    question, context = "was it good ?", "the film was very  Good , but the plot was slow"
    [answer] = sessions["questions"]([(question, context)])
    assert isinstance(answer, Answer)
    assert answer.answer == context[answer.start : answer.end] != ""

    encoder = sessions["questions"]._encoder
    [encoded] = encoder.encode([(question, context)])
    outputs = sessions["questions"].run(encoder.padded([encoded])).outputs
    start, end = outputs["start_logits"][0], outputs["end_logits"][0]
    spans = [
        (float(start[i] + end[j]), i, j)
        for i in range(len(start))
        for j in range(i, min(i + 30, len(start)))
        if encoded.encoding.sequence_ids[i] == encoded.encoding.sequence_ids[j] == 1
    ]
    _, first, last = max(spans)
    assert answer.start == encoded.encoding.offsets[first][0]
    assert answer.end == encoded.encoding.offsets[last][1]
    assert 0 < answer.score <= 1


def test_an_empty_context_holds_no_answer(sessions: dict[str, Session]) -> None:
    [answer] = sessions["questions"]([("was it good ?", "")])
    assert (answer.answer, answer.score, answer.start, answer.end) == ("", 0.0, 0, 0)


def test_only_the_context_of_a_question_is_cut(sessions: dict[str, Session]) -> None:
    encoder = sessions["questions"]._encoder
    [encoded] = encoder.encode([("was it good ?", "very good " * 40)])
    assert encoded.truncated
    assert len(encoded.ids) == MAX_LENGTH
    assert encoded.encoding.sequence_ids.count(0) == 4


def test_a_question_without_room_for_its_context_is_refused(sessions: dict[str, Session]) -> None:
    with pytest.raises(InputError, match="Text 1: the question"):
        sessions["questions"]([("good ?", "film"), ("was it good ? " * 20, "the film")])


def test_a_text_that_is_too_long_is_cut_and_says_so(sessions: dict[str, Session]) -> None:
    fits = " ".join(["good"] * (MAX_LENGTH - 2))
    answers = sessions["entropy"]([fits, fits + " film", fits + " bad fun", "good"])
    assert [answer.truncated for answer in answers] == [False, True, True, False]
    assert answers[0].scores == pytest.approx(answers[1].scores, abs=1e-5)
    assert answers[1].scores == pytest.approx(answers[2].scores, abs=1e-5)


@pytest.mark.parametrize(
    "kind, text, message",
    [
        ("questions", "a text", r"Text 0: expected a pair \(question, context\)"),
        ("tokens", ("a", "pair"), "Text 0: got a pair"),
        ("entropy", ("a", "b", "c"), "Text 0: got tuple"),
        ("entropy", ("a", None), "Text 0: got NoneType"),
    ],
)
def test_a_text_of_the_wrong_form_is_refused(
    sessions: dict[str, Session], kind: str, text: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        sessions[kind]([text])


@pytest.mark.parametrize(
    "make", [tuple, iter, np.array, lambda texts: np.array(texts, object), Series, deque]
)
def test_whatever_gives_texts_in_an_order_is_a_list_of_them(
    sessions: dict[str, Session], make: Any
) -> None:
    texts = ["a good film", "the plot was dull", "fun"]
    assert sessions["entropy"](make(texts)) == sessions["entropy"](texts)
    pairs = [("a film", "good"), ("the plot", "dull")]
    assert sessions["entropy"](make(pairs)) == sessions["entropy"](pairs)


@pytest.mark.parametrize("texts", ["a film", b"a film", None, 3, {"a": "film"}, {"a film"}])
def test_what_is_no_list_of_texts_is_refused(sessions: dict[str, Session], texts: Any) -> None:
    with pytest.raises(InputError, match="expected a list of texts"):
        sessions["entropy"](texts)


def test_a_bundle_without_tokenizer_names_the_way_out(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    folder = with_manifest(bundles["entropy"], tmp_path, tokenizer=None, golden=[])
    with Session(folder) as session:
        with pytest.raises(InputError, match="--tokenizer DIR"):
            session(["a film"])
        assert session.run({"input_ids": [[2, 5, 3]]}).logits.shape == (1, 3)

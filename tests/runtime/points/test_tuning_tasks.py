"""Every task is tuned by its own quality, which a session gives at the chosen point as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

from bundle_edits import at, edit_manifest
from effbert.runtime import Session
from effbert.runtime.commands import effbert
from effbert.runtime.points.grading import shared_words
from task_bundles import build_question_bundle, build_token_bundle
from tiny_bundle import build_tiny_bundle
from tune_command import summary, texts

LABELS = ["O", "B-X", "I-X"]
TEXTS = texts(120, least=3)
RANDOM = np.random.default_rng(0)


class Task(NamedTuple):
    """A bundle, examples as their file has them, and a session's answers to their quality."""

    build: Callable[[Path], object]
    rows: Callable[[Path], list[dict[str, Any]]]
    metric: str
    quality: Callable[[list[Any], list[dict[str, Any]]], float]


def classified(problem: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        build_tiny_bundle(folder)
        edit_manifest(folder, at("problem", problem))

    return build


def several(folder: Path) -> list[dict[str, Any]]:
    with Session(folder, threads=1) as session:
        found = [answer.labels for answer in session(TEXTS)]
    return [{"text": text, "labels": labels[:2]} for text, labels in zip(TEXTS, found, strict=True)]


def micro_f1(answers: list[Any], rows: list[dict[str, Any]]) -> float:
    sets = [(set(a.labels), set(row["labels"])) for a, row in zip(answers, rows, strict=True)]
    right = sum(len(one & other) for one, other in sets)
    return 2 * right / sum(len(one) + len(other) for one, other in sets)


def tagged(folder: Path) -> None:
    build_token_bundle(folder)
    edit_manifest(folder, at("labels", LABELS))


def words(folder: Path) -> list[dict[str, Any]]:
    drawn = [[LABELS[n] for n in RANDOM.integers(0, 3, len(text.split()))] for text in TEXTS]
    return [
        {"tokens": text.split(), "ner_tags": tags} for text, tags in zip(TEXTS, drawn, strict=True)
    ]


def agreed(answers: list[Any], rows: list[dict[str, Any]]) -> float:
    """Entities of one label run: those of O, B and I of one type are found by their borders."""

    def found(tags: list[str]) -> set[tuple[int, int]]:
        spans, start = set(), None
        for index, tag in enumerate([*tags, "O"]):
            if start is not None and tag != "I-X":
                spans.add((start, index))
                start = None
            if tag != "O" and start is None:
                start = index
        return spans

    pairs = []
    for answer, row in zip(answers, rows, strict=True):
        starts = np.cumsum([0, *(len(word) + 1 for word in row["tokens"])])[:-1].tolist()
        first = {entity.start: entity.label for entity in reversed(answer.entities)}
        pairs.append((found([first[start] for start in starts]), found(row["ner_tags"])))
    right = sum(len(one & other) for one, other in pairs)
    return 2 * right / sum(len(one) + len(other) for one, other in pairs)


def questions(folder: Path) -> list[dict[str, Any]]:
    return [
        {"question": text, "context": other, "answers": {"text": [other.split()[0], other]}}
        for text, other in zip(TEXTS, reversed(TEXTS), strict=True)
    ]


def answered(answers: list[Any], rows: list[dict[str, Any]]) -> float:
    scores = [
        max(shared_words(answer.answer, right) for right in row["answers"]["text"])
        for answer, row in zip(answers, rows, strict=True)
    ]
    return float(np.mean(scores))


TASKS = {
    "several labels": Task(classified("multi-label"), several, "micro-f1", micro_f1),
    "words": Task(tagged, words, "micro-f1", agreed),
    "questions": Task(build_question_bundle, questions, "answer-f1", answered),
}


def given(row: dict[str, Any]) -> Any:
    if "question" in row:
        return row["question"], row["context"]
    return row.get("text") or " ".join(row["tokens"])


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_tuned_by_its_own_quality(name: str, tmp_path: Path) -> None:
    task, bundle, data = TASKS[name], tmp_path / "bundle", tmp_path / "data.jsonl"
    task.build(bundle)
    rows = task.rows(bundle)
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["tune", str(bundle), "--data", str(data), "--threads", "1", "--json"]
    said = summary(CliRunner().invoke(effbert, [*command, "--max-loss", "5", "--speedup", "1"]))
    assert said["metric"] == task.metric
    assert said["points"]
    for point in said["points"]:
        with Session(bundle, threads=1, operating_point=point["name"]) as session:
            expected = task.quality(session([given(row) for row in rows]), rows)
        assert point["quality"][task.metric] == pytest.approx(100 * expected, abs=0.01)

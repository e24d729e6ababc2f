"""Which bundles a search can score: one right label for each text, or for each word."""

from pathlib import Path

import pytest

from bundle_edits import at, edit_manifest
from effbert.runtime import Session
from effbert.runtime.bundle.folder import open_bundle
from search_command import search, summary, table, texts
from task_bundles import build_token_bundle
from tiny_bundle import LABELS, build_tiny_bundle


def test_labelled_words_are_scored_one_by_one(tmp_path: Path) -> None:
    bundle = build_token_bundle(tmp_path / "tokens")
    names = open_bundle(bundle).manifest.labels
    words = texts(20)
    with Session(bundle, threads=1) as session:
        answers = session(words)
    found = []
    for text, answer in zip(words, answers, strict=True):
        starts = {entity.start: entity.label for entity in answer.entities}
        places = [sum(len(w) + 1 for w in text.split()[:k]) for k in range(len(text.split()))]
        found.append([starts[place] for place in places])
    wrong = names[(names.index(found[0][0]) + 1) % len(names)]
    found[0][0] = wrong
    data = table(
        tmp_path / "data.csv", [(t, " ".join(row)) for t, row in zip(words, found, strict=True)]
    )
    said = summary(search(bundle, data, "--over", "threshold", "--generations", "1", "--json"))
    total = sum(map(len, found))
    best = said["points"][-1]["quality"]["accuracy"]
    assert best == pytest.approx(100 * (total - 1) / total, abs=0.01)


def test_a_task_without_one_right_label_is_refused(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    edit_manifest(bundle, at("problem", "multi-label"))
    data = table(tmp_path / "data.csv", [("a film", LABELS[0])])
    result = search(bundle, data, "--over", "threshold")
    assert result.exit_code == 2
    assert "A bundle for multi-label text-classification cannot be searched" in result.stderr


def test_labels_of_words_must_match_the_words(tmp_path: Path) -> None:
    bundle = build_token_bundle(tmp_path / "bundle")
    name = open_bundle(bundle).manifest.labels[0]
    data = table(tmp_path / "data.csv", [("a film", name)])
    result = search(bundle, data, "--over", "threshold")
    assert result.exit_code == 2
    assert "line 2: 1 labels for 2 words" in result.stderr

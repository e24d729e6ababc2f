"""`--fit-temperature`: the defaults of a bundle's temperatures, fitted on labelled texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effbert.exporter import export
from effbert.runtime import Session
from effbert.runtime.errors import InputError
from effbert.runtime.texts.files import read_labelled
from systems.sledgehammer_checkpoint import write_sledgehammer

LABELS = ("bad", "fair", "good")
TEXTS = [f"the {word} story number {n}" for n in range(20) for word in ("good", "bad", "great")]


def table(path: Path, labels: int) -> Path:
    rows = [f"{text},{n * 7 % labels}" for n, text in enumerate(TEXTS)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def surprise(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -log_shares[:, np.arange(len(labels)), labels].mean(axis=1)


def test_fitted_temperatures_make_the_labels_likelier(tmp_path: Path):
    checkpoint = write_sledgehammer(tmp_path / "in", tokenizer="fast", labels=LABELS)
    data = table(tmp_path / "data.csv", len(LABELS))
    export(checkpoint, tmp_path / "out", fit_temperature=data, verify=False)
    session = Session(tmp_path / "out")
    fitted = session.knobs["temperature"].default
    assert isinstance(fitted, list)
    assert len(set(fitted)) == len(session.exits)
    rows = read_labelled(data, session.bundle.manifest.labels)
    encoded = session._encoder.encode(rows.texts)
    inputs = session._encoder.padded(encoded)
    labels = np.array(rows.labels)
    best = surprise(session.run_exits(inputs, {"temperature": fitted})["logits"], labels)
    for factor in (0.8, 1.25):
        moved = [fitted[0] * factor, *fitted[1:]]
        other = surprise(session.run_exits(inputs, {"temperature": moved})["logits"], labels)
        assert best[0] < other[0]


@pytest.mark.parametrize(
    "content, message",
    [
        ("text;label\n", "needs the columns text and label"),
        ("text,label\n", "holds no rows"),
        ("text,label\nhello,nonsense\n", "line 2: label 'nonsense' is none of the model's"),
        ("text,label\nhello,\xff", "label"),
    ],
)
def test_files_that_do_not_fit_are_refused(content: str, message: str, tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_labelled(path, ["a", "b"])


def test_pairs_and_label_numbers_are_read(tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_text('text,pair,label\n"one, two",three,b\nfour,,0\n')
    found = read_labelled(path, ["a", "b"])
    assert found.texts == [("one, two", "three"), "four"]
    assert found.labels == [1, 0]

"""Where a sweep cannot foresee where texts or words leave, the session runs at some thresholds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bundle_edits import at, edit_manifest
from effbert.exporter import export
from effbert.runtime import Session, TokenLabels
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.points import by_running, rehearsal
from systems.elbert_checkpoint import write_elbert
from systems.sentee_checkpoint import write_sentee
from tune_command import summary, texts, tune

WORDS = texts(40, least=3)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMED", 3)
    monkeypatch.setattr(by_running, "TIMED", 3)
    monkeypatch.setattr(by_running, "TRIED", 8)


def test_words_that_leave_one_by_one_are_tuned(tmp_path: Path) -> None:
    write_sentee(tmp_path / "checkpoint", keep_norm_same=0, tokenizer="fast")
    bundle, data = tmp_path / "bundle", tmp_path / "data.jsonl"
    export(tmp_path / "checkpoint", bundle, verify=False)
    rows = [{"tokens": text.split()} for text in WORDS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = ("--max-loss", "0", "--max-loss", "40", "--front", "--json")
    said = summary(tune(bundle, data, *wanted))
    deep, shallow, *front = said["points"]
    assert deep["cost"]["mean exit layer"] >= shallow["cost"]["mean exit layer"]
    assert front[0]["cost"]["mean exit layer"] < 4
    assert len(front) > 2
    with Session(bundle, threads=1) as session:
        full = [*map(labels, session(WORDS), WORDS)]
    for point in said["points"]:
        with Session(bundle, threads=1, operating_point=point["name"]) as session:
            found = [*map(labels, session(WORDS), WORDS)]
        same = [one == two for one, two in zip(found, full, strict=True)]
        assert point["quality"]["agreement"] == pytest.approx(100 * np.mean(same), abs=0.01)
    refused = tune(bundle, data, "--cost", "flops")
    assert refused.exit_code == 2
    assert "leave --cost flops out" in refused.stderr


def labels(answer: TokenLabels, text: str) -> list[str]:
    """Of the first piece of each word."""
    return [each.label for each in answer.entities if f" {text}"[each.start] == " "]


def test_a_rule_with_a_second_condition_is_tuned(tmp_path: Path) -> None:
    """ELBERT also stops where a window of probabilities agrees, whatever the threshold is."""
    write_elbert(tmp_path / "checkpoint", tokenizer="fast")
    bundle, data = tmp_path / "bundle", tmp_path / "data.jsonl"
    export(tmp_path / "checkpoint", bundle, verify=False, policy="elbert-bias-1")
    names = [knob.name for knob in open_bundle(bundle).manifest.knobs]
    edit_manifest(bundle, at(f"knobs.{names.index('window')}.default", 3))
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in WORDS))
    said = summary(tune(bundle, data, "--max-loss", "30", "--front", "--json"))
    for point in said["points"]:
        with Session(bundle, threads=1, operating_point=point["name"]) as session:
            layers = [answer.exit_layer for answer in session(WORDS)]
        assert point["cost"]["mean exit layer"] == pytest.approx(np.mean(layers), abs=0.001)
    assert said["points"][-1]["quality"]["agreement"] == 100

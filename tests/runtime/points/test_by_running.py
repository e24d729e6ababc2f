"""Where a sweep cannot foresee where texts or words leave, the session runs at some thresholds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bundle_edits import at, edit_manifest
from effbert.exporter import export
from effbert.runtime import Session, TokenLabels
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.errors import InputError
from effbert.runtime.points import by_running, rehearsal
from effbert.runtime.points.by_running import run_thresholds
from effbert.runtime.points.examples import Columns, Examples
from effbert.runtime.points.measuring import Measuring, measure_variants
from systems.elbert_checkpoint import write_elbert
from systems.sentee_checkpoint import write_sentee
from task_bundles import build_token_bundle, report_layers_of_tokens
from tune_command import summary, texts, tune

WORDS = texts(40, least=3)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMED", 3)
    monkeypatch.setattr(by_running, "TIMED", 3)
    monkeypatch.setattr(by_running, "TRIED", 8)


def build_tokee(bundle: Path) -> None:
    checkpoint = bundle.with_name("checkpoint")
    write_sentee(checkpoint, keep_norm_same=0, tokenizer="fast")
    export(checkpoint, bundle, verify=False)


def build_tiny(bundle: Path) -> None:
    """Its rows leave together, and it says of each token which layer it comes from."""
    build_token_bundle(bundle)
    report_layers_of_tokens(bundle)


@pytest.mark.parametrize("build", [build_tiny, pytest.param(build_tokee, marks=pytest.mark.slow)])
def test_words_that_leave_one_by_one_are_tuned(
    build: Callable[[Path], None], tmp_path: Path
) -> None:
    bundle, data = tmp_path / "bundle", tmp_path / "data.jsonl"
    build(bundle)
    rows = [{"tokens": text.split()} for text in WORDS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = ("--max-loss", "0", "--max-loss", "40", "--front", "--json")
    said = summary(tune(bundle, data, *wanted))
    assert said["points"][2]["name"] == "front-1"
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


def test_thresholds_are_spread_over_the_depths(tmp_path: Path) -> None:
    build_tiny(tmp_path / "bundle")
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in WORDS))
    with Session(tmp_path / "bundle", threads=1) as session:
        examples = Examples(data, session.bundle.manifest)
        measuring = Measuring(session, data, examples, Columns())
        full, *found = run_thresholds(measuring)
        with pytest.raises(InputError, match="no sweep foresees"):
            measure_variants(session, data, examples, Columns(), None, lambda rows: None)
    assert full.layers is not None
    depths = [float(each.layers.mean()) for each in found if each.layers is not None]
    assert depths == sorted(depths, reverse=True)
    assert len(found) <= by_running.TRIED
    assert len(set(depths)) > 2
    assert depths[0] == full.layers.mean()


def labels(answer: TokenLabels, text: str) -> list[str]:
    """Of the first piece of each word."""
    return [each.label for each in answer.entities if f" {text}"[each.start] == " "]


@pytest.mark.slow
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

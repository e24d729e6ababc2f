"""`--exits auto` keeps the cheapest of the exits it tried, or says why it cannot choose."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import write_deebert, write_pabee
from effbert.exporter import ExportOptions, export
from effbert.exporter.exits import auto
from effbert.runtime import Placement, Session
from effbert.runtime.errors import InputError
from export_command import run_command
from systems.gpfee_checkpoint import write_gpfee
from systems.sledgehammer_checkpoint import write_sledgehammer
from tune_command import texts

LAYERS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(0)
    rows = [{"text": text, "label": draw.randint(0, 1)} for text in texts(150)]
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_model_is_tried_with_all_exits_and_with_the_last_alone(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: dict[str, ExportOptions] = {}
    placement = Placement((2, 5), (), "accuracy", 0.9, 3.0, 0.1, 150)

    def try_out(folder: Path, options: ExportOptions) -> tuple[int, ...]:
        assert folder.parent.is_dir()
        tried[str(folder)] = options
        return (1, 2, 5)

    def choose(every: Path, last: Path, found: Path, max_loss: float) -> Placement:
        assert [*tried] == [str(every), str(last)]
        assert (found, max_loss) == (data, 2.0)
        return placement

    monkeypatch.setattr(auto, "choose_exits", choose)
    asked = ExportOptions(exits="auto", data=data, max_loss=2.0, policy="entropy", force=True)
    options, found = auto.with_chosen_exits(asked, try_out, lambda phrase: None)
    assert found is placement
    assert options == replace(asked, exits=(2, 5), data=None)
    every, last = tried.values()
    assert (every.exits, last.exits) == ("all", [5])
    assert {each.policy for each in tried.values()} == {"entropy"}
    assert not any(each.verify for each in tried.values())
    assert not any(Path(folder).parent.exists() for folder in tried)


@pytest.mark.slow
def test_the_cheapest_of_the_exits_that_were_tried_are_kept(data: Path, tmp_path: Path) -> None:
    checkpoint = write_deebert(tmp_path / "in", layers=LAYERS, tokenizer="fast")
    report = export(checkpoint, tmp_path / "out", exits="auto", data=data, max_loss=5)
    found = report.placement
    assert found is not None
    with Session(tmp_path / "out", threads=1) as session:
        assert tuple(each.layer for each in session.exits) == found.layers
    costs = {each.name: each.ms for each in found.candidates}
    assert {"all exits", "every 2nd", "searched"} <= set(costs)
    [best] = [each for each in found.candidates if each.layers == found.layers][:1]
    assert best.ms == min(costs.values())
    assert all(each.layers[-1] == LAYERS for each in found.candidates)
    assert all(each.quality >= found.full - 0.05 - 1e-9 for each in found.candidates)
    assert found.examples == 150
    assert report.manifest is not None
    assert report.manifest.parity is not None


@pytest.mark.slow
def test_the_command_shows_what_it_tried(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_deebert(tmp_path / "in", layers=2, tokenizer="fast")
    outcome = run_command(
        capfd, checkpoint, tmp_path / "out", "--exits", "auto", "--data", data, "--no-verify"
    )
    assert outcome.code == 0, outcome
    assert "Exits tried on 150 examples" in outcome.out
    assert "all exits" in outcome.out


@pytest.mark.parametrize(
    "options, reason",
    [
        ({}, "--exits auto and --data belong together"),
        ({"data": "data.jsonl", "exits": "all"}, "--exits auto and --data belong together"),
        ({"data": "missing.jsonl"}, "there is no such file"),
        ({"data": "data.jsonl", "dry_run": True}, "leave --dry-run"),
        ({"data": "data.jsonl", "max_loss": -1.0}, "a number of points from 0 on"),
        ({"data": "data.jsonl", "knobs": {"threshold": [0.1, 0.2]}}, "takes one value of a knob"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, Any],
    reason: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data.parent)
    with pytest.raises(InputError, match=reason):
        export(tmp_path / "nothing", tmp_path / "out", **{"exits": "auto"} | options)


@pytest.mark.slow
def test_exits_of_a_policy_that_remembers_are_not_chosen(data: Path, tmp_path: Path) -> None:
    checkpoint = write_pabee(tmp_path / "in", layers=2, tokenizer="fast")
    with pytest.raises(InputError, match="patience remembers the exits before"):
        export(checkpoint, tmp_path / "out", exits="auto", data=data)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_deebert, write_gpfee, write_sledgehammer])
def test_an_exit_says_the_same_where_others_are_missing(write: Any, tmp_path: Path) -> None:
    """What the choice assumes of every policy without memory."""
    checkpoint = write(tmp_path / "in")
    export(checkpoint, tmp_path / "every", verify=False)
    with Session(tmp_path / "every", threads=1) as session:
        layers = [each.layer for each in session.exits]
        ids = np.random.default_rng(0).integers(
            1, session.bundle.manifest.limits.vocab_size, (8, 9)
        )
        answers = session.run_exits({"input_ids": ids})
    kept = [*range(len(layers) - 1, -1, -2)][::-1]
    export(checkpoint, tmp_path / "some", exits=[layers[each] for each in kept], verify=False)
    with Session(tmp_path / "some", threads=1) as session:
        fewer = session.run_exits({"input_ids": ids})
    np.testing.assert_allclose(fewer["logits"], answers["logits"][kept], atol=1e-4)
    np.testing.assert_allclose(fewer.signal[:-1], answers.signal[kept][:-1], atol=1e-4)

"""Exits are chosen from what examples show, or it is said why they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundle_edits import edit_manifest
from effbert.runtime import Session, choose_exits
from effbert.runtime.errors import InputError
from effbert.runtime.points import kept_exits
from reported_bundles import labelled_bundle
from task_bundles import build_token_bundle
from tiny_bundle import build_tiny_bundle


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return labelled_bundle(tmp_path_factory.mktemp("kept"))


def timed(monkeypatch: pytest.MonkeyPatch, exit_ms: float) -> None:
    """Let an exit cost so much; layers cost what is measured, far less than a second."""
    monkeypatch.setattr(kept_exits, "cost_of_an_exit", lambda *sessions: exit_ms)


def test_exits_that_cost_nothing_stay_as_cheap_as_all_or_every_kth(
    labelled: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 0.0)
    bundle, data = labelled
    found = choose_exits(bundle, bundle, data, max_loss=10)
    costs = {each.name: each.ms for each in found.candidates}
    assert {"all exits", "every 2nd", "searched"} <= set(costs)
    [chosen] = [each for each in found.candidates if each.layers == found.layers][:1]
    assert chosen.ms == min(costs.values())
    assert found.layers[-1] == 3
    assert len(found.layers) > 1
    assert chosen.mean_layer < 3
    assert chosen.quality >= found.full - 0.1


def test_exits_that_cost_more_than_the_layers_go(
    labelled: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, data = labelled
    measured = kept_exits.measure_variants

    def slow(*arguments: Any) -> Any:
        """Each layer takes 1 ms, and each exit as measured 5 more."""
        [facts], metric = measured(*arguments)
        facts.rows.costs[:] = 6.0 * (1 + facts.rows.costs.argsort(axis=0))
        return [facts], metric

    monkeypatch.setattr(kept_exits, "measure_variants", slow)
    timed(monkeypatch, 5.0)
    found = choose_exits(bundle, bundle, data, max_loss=0)
    assert found.layers == (3,)
    [alone] = {each.ms for each in found.candidates if each.layers == (3,)}
    assert alone == pytest.approx(8.0)  # three layers and one exit
    assert found.full_ms == pytest.approx(18.0)


def test_a_policy_that_remembers_is_refused(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle", policy="patience")
    with pytest.raises(InputError, match="remembers the exits before"):
        choose_exits(bundle, bundle, labelled[1])


def test_without_labels_answers_of_full_depth_are_kept(tmp_path: Path) -> None:
    bundle, data = build_token_bundle(tmp_path / "bundle"), tmp_path / "data.jsonl"
    data.write_text('{"text": "a good film"}\n{"text": "the plot was dull"}')
    assert choose_exits(bundle, bundle, data).metric == "agreement"


def test_numbers_have_no_right_answers_to_keep(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    edit_manifest(bundle, lambda manifest: manifest.update(problem="regression"))
    with pytest.raises(InputError):
        choose_exits(bundle, bundle, labelled[1])


def test_a_session_is_not_left_open(
    labelled: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Session] = []
    close = Session.close
    monkeypatch.setattr(Session, "close", lambda self: (closed.append(self), close(self)))
    timed(monkeypatch, 0.1)
    choose_exits(labelled[0], labelled[0], labelled[1])
    assert len(closed) == 2

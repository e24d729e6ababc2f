"""Knob values: what is accepted, what wins, and what a refusal says."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle_edits import at, edit_manifest
from effbert.runtime import Session
from effbert.runtime.errors import InputError
from tiny_bundle import build_tiny_bundle

ONE = {"input_ids": [[2, 5, 6, 3]]}


@pytest.fixture(scope="module")
def pointed(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The entropy bundle with two operating points."""
    folder = shutil.copytree(bundles["entropy"], tmp_path_factory.mktemp("points") / "bundle")
    points = [
        {"name": "fast", "knobs": {"threshold": 2.0}, "data": "none"},
        {"name": "middle", "knobs": {"threshold": [0.0, 2.0, 0.0]}, "data": "none"},
    ]
    edit_manifest(folder, at("operating_points", points))
    return folder


def exit_of(session: Session, **options: Any) -> int:
    return int(session.run(ONE, **options).exit_index[0])


def test_the_defaults_never_exit_early(sessions: dict[str, Session]) -> None:
    assert exit_of(sessions["entropy"]) == 2
    assert exit_of(sessions["patience"]) == 2


def test_the_call_wins_over_the_operating_point_over_the_default(pointed: Path) -> None:
    with Session(pointed, operating_point="fast") as session:
        assert exit_of(session) == 0
        assert exit_of(session, knobs={"threshold": 0.0}) == 2
        assert exit_of(session) == 0, "a call must not change the session"
    with Session(pointed, operating_point="middle") as session:
        assert exit_of(session) == 1


def test_an_unknown_operating_point_is_refused_with_those_that_exist(pointed: Path) -> None:
    with pytest.raises(InputError, match=r"'slow'.*'fast', 'middle'"):
        Session(pointed, operating_point="slow")


@pytest.mark.parametrize(
    "value",
    [
        2,
        2.0,
        np.float32(2),
        np.float64(2),
        np.int64(2),
        np.array(2.0),
        [2, 0, 0],
        (2.0, 0.0, 0.0),
        np.array([2.0, 0.0, 0.0]),
    ],
)
def test_a_number_of_any_kind_is_a_value(sessions: dict[str, Session], value: Any) -> None:
    assert exit_of(sessions["entropy"], knobs={"threshold": value}) == 0


REFUSED = {
    "unknown name": ("entropy", {"treshold": 1.0}, "'treshold'.*threshold"),
    "bool": ("entropy", {"threshold": True}, "'threshold'.*True"),
    "numpy bool": ("entropy", {"threshold": np.True_}, "'threshold'"),
    "string": ("entropy", {"threshold": "never"}, "'threshold'.*'never'"),
    "none": ("entropy", {"threshold": None}, "'threshold'.*None"),
    "nan": ("entropy", {"threshold": math.nan}, "'threshold'.*nan"),
    "complex": ("entropy", {"threshold": 1j}, "'threshold'"),
    "too small": ("entropy", {"threshold": -0.1}, "from 0.0 to 2.0"),
    "too large": ("entropy", {"threshold": 2.1}, "from 0.0 to 2.0"),
    "infinite": ("entropy", {"threshold": math.inf}, "from 0.0 to 2.0"),
    "list too short": ("entropy", {"threshold": [0.1, 0.2]}, "got 2 values.*3"),
    "list too long": ("entropy", {"threshold": [0.1] * 4}, "got 4 values.*3"),
    "nan in a list": ("entropy", {"threshold": [0.1, math.nan, 0.1]}, "nan"),
    "bool in a list": ("entropy", {"threshold": [0.1, True, 0.1]}, "True"),
    "list of lists": ("entropy", {"threshold": [[0.1], [0.1], [0.1]]}, "'threshold'"),
    "matrix": ("entropy", {"threshold": np.zeros((3, 1))}, "'threshold'"),
    "list for one value": ("patience", {"patience": [1, 1, 1]}, "'patience': got a list"),
    "fraction for an integer": ("patience", {"patience": 1.5}, "an integer from 0.0 to 3.0"),
    "no dict": ("entropy", [("threshold", 0.1)], "expected a dict"),
}


@pytest.mark.parametrize("kind, knobs, message", REFUSED.values(), ids=REFUSED)
def test_a_value_that_does_not_fit_is_refused_by_name(
    sessions: dict[str, Session], kind: str, knobs: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        sessions[kind].run(ONE, knobs=knobs)


@pytest.mark.parametrize("value", [10**400, 1e300, -(10**400)], ids=["int", "float", "minus"])
def test_a_number_too_large_for_the_graph_is_refused(
    bundles: dict[str, Path], tmp_path: Path, value: float
) -> None:
    folder = shutil.copytree(bundles["entropy"], tmp_path / "bundle")
    edit_manifest(folder, at("knobs.0.minimum", "-inf"))
    edit_manifest(folder, at("knobs.0.maximum", "inf"))
    with Session(folder) as session:
        assert exit_of(session, knobs={"threshold": math.inf}) == 0
        with pytest.raises(InputError, match="'threshold': got"):
            session.run(ONE, knobs={"threshold": value})


def test_one_refused_value_changes_nothing_for_the_next_call(
    sessions: dict[str, Session],
) -> None:
    with pytest.raises(InputError):
        sessions["entropy"].run(ONE, knobs={"threshold": 2.0, "other": 1.0})
    assert exit_of(sessions["entropy"]) == 2


def test_a_session_shows_its_knobs_with_range_and_default(tmp_path: Path) -> None:
    with Session(build_tiny_bundle(tmp_path / "bundle")) as session:
        knob = session.knobs["threshold"]
        assert (knob.minimum, knob.maximum, knob.default, knob.never) == (0.0, 2.0, 0.0, 0.0)
        assert [(item.index, item.layer) for item in session.exits] == [(0, 1), (1, 2), (2, 3)]
        assert session.bundle.manifest.labels == ["negative", "neutral", "positive"]

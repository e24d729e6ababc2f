"""What an engine may ask for and say beyond running segments: devices, shapes, rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fake_engine
from effbert.runtime import EffbertWarning, EngineError, InputError, MissingDependencyError, Session
from effbert.runtime.engines import row_independence, table
from effbert.runtime.engines.protocol import EngineSettings, ShapeLimits
from effbert.runtime.engines.table import ENGINES, Entry, installed_engines, open_engine
from tiny_bundle import build_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny bundle; not to be changed."""
    return build_tiny_bundle(tmp_path_factory.mktemp("protocol") / "bundle")


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of tests, whose rows are independent."""
    monkeypatch.setitem(ENGINES, "waiting", Entry(*fake_engine.ENTRY))
    monkeypatch.setattr(fake_engine, "SECONDS", 0)
    monkeypatch.setitem(row_independence.DIFFERENCES, ("waiting", "fp32"), 0.0)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_for_the_cpu_refuse_other_devices(engine: str) -> None:
    open_engine(engine, EngineSettings(device="cpu"))
    with pytest.raises(InputError, match=f"'{engine}' computes on the CPU only, got device 'cuda"):
        open_engine(engine, EngineSettings(device="cuda:0"))


def test_settings_reach_the_engine(waiting: None, tmp_path: Path) -> None:
    settings = EngineSettings(threads=2, folder=tmp_path, strict=True)
    assert open_engine("waiting", settings).settings == settings


def test_batches_with_more_rows_than_the_engine_takes_are_split(
    waiting: None, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_engine.Waiting, "limits", ShapeLimits(rows=2))
    with Session(bundle, "waiting") as session:
        ids = np.array([[5 + row % 3, 3, 3] for row in range(5)])
        assert session.run({"input_ids": ids}).exit_index.tolist() == [0, 1, 2, 0, 1]
        assert max(rows for _, (rows, _) in session._engine.shapes) == 2


def test_rows_that_are_longer_than_the_engine_takes_are_refused(
    waiting: None, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_engine.Waiting, "limits", ShapeLimits(length=2))
    with Session(bundle, "waiting") as session:
        assert session.run({"input_ids": [[5, 3]]}).exit_index.tolist() == [0]
        with pytest.raises(InputError, match=r"got 3 tokens a row, .* prepared for up to 2"):
            session.run({"input_ids": [[5, 3, 3]]})


def test_a_session_warns_of_rows_that_nobody_measured(
    waiting: None, bundle: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.delitem(row_independence.DIFFERENCES, ("waiting", "fp32"))
    assert row_independence.row_independence("waiting", "fp32") == "not measured"
    with pytest.warns(EffbertWarning, match=r"nobody has measured .* validate BUNDLE") as caught:
        Session(bundle, "waiting").close()
    assert [item.filename for item in caught] == [__file__]
    with pytest.raises(InputError, match="nobody has measured"):
        Session(bundle, "waiting", strict=True)
    Session(bundle, "waiting", strict=True, dependent_rows=True).close()
    assert not recwarn.list


@pytest.mark.parametrize("measured, trusted", [(0.0, True), (0.01, True), (float("inf"), False)])
def test_what_an_engine_measured_on_its_device_counts_more_than_the_table(
    waiting: None,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: float,
    trusted: bool,
) -> None:
    monkeypatch.setattr(fake_engine.Waiting, "measured_rows", measured)
    if trusted:
        Session(bundle, "waiting").close()
    else:
        with pytest.raises(InputError, match="depends on the rows beside it"):
            Session(bundle, "waiting")


def test_without_a_name_the_first_installed_engine_runs(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session(bundle) as session:
        assert session.engine == installed_engines()[0] == "onnxruntime"
    missing = {"onnxruntime"}
    find = table.find_spec
    monkeypatch.setattr(table, "find_spec", lambda name: None if name in missing else find(name))
    with Session(bundle) as session:
        assert session.engine == "openvino"
    missing.add("openvino")
    with pytest.raises(MissingDependencyError, match=r"No engine is installed; .*effbert\[cpu\]"):
        Session(bundle)


@pytest.mark.parametrize("name", ["tensorrt-rtx", "tensorrt"])
def test_engines_with_plans_are_never_chosen_by_themselves(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(table, "find_spec", lambda _: True)
    assert ENGINES[name].on_request
    assert name not in installed_engines()


class Broken(fake_engine.Waiting):
    def __init__(self, settings: EngineSettings) -> None:
        raise EngineError("There is no GPU; install one.")


@pytest.fixture
def broken(waiting: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that cannot be opened here."""
    monkeypatch.setattr(fake_engine, "Broken", Broken, raising=False)
    monkeypatch.setitem(ENGINES, "broken", Entry("fake_engine:Broken", "nothing", "nothing"))


def test_without_a_fallback_the_error_of_the_engine_is_raised(broken: None, bundle: Path) -> None:
    with pytest.raises(EngineError, match="There is no GPU; install one"):
        Session(bundle, "broken")


def test_a_fallback_runs_with_one_warning_that_names_it(broken: None, bundle: Path) -> None:
    with pytest.warns(EffbertWarning) as caught:
        session = Session(bundle, "broken", fallback="onnxruntime", plans="somewhere")
    assert [str(item.message) for item in caught] == [
        "There is no GPU; install one; until then the engine onnxruntime runs the bundle."
    ]
    with session:
        assert session.engine == "onnxruntime"
        assert session.run({"input_ids": [[5, 3]]}).exit_index.tolist() == [2]


def test_strict_refuses_the_fallback(broken: None, bundle: Path) -> None:
    with pytest.raises(EngineError, match="There is no GPU"):
        Session(bundle, "broken", fallback="onnxruntime", strict=True)


@pytest.mark.parametrize("fallback", ["broken", "no such"])
def test_a_fallback_is_another_engine(broken: None, bundle: Path, fallback: str) -> None:
    with pytest.raises(InputError, match=f"Fallback '{fallback}' is no other engine; choose one"):
        Session(bundle, "broken", fallback=fallback)


def test_where_the_rows_depend_on_the_length_batches_are_split_by_it(
    waiting: None, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ShapeLimits(rows=1, length=4, steps=((2, 3), (4, 1)))
    monkeypatch.setattr(fake_engine.Waiting, "limits", limits)
    with Session(bundle, "waiting") as session:
        session.run({"input_ids": np.full((4, 2), 5)})
        assert [rows for _, (rows, _) in session._engine.shapes] == [3, 1]
        session._engine.shapes.clear()
        session.run({"input_ids": np.full((2, 3), 5)})
        assert [rows for _, (rows, _) in session._engine.shapes] == [1, 1]

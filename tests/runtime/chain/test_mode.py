"""Whether segments run joined or one by one is visible; other failures are never swallowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from bundle_edits import edit_segment
from effbert.runtime import EngineError, ResourceError, Session
from effbert.runtime.commands import effbert
from effbert.runtime.engines.onnxruntime import engine as onnxruntime_engine
from effbert.runtime.engines.onnxruntime.engine import OnnxRuntime
from tiny_bundle import build_tiny_bundle

IDS = {"input_ids": [[2, 5, 3]]}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny bundle; not to be changed."""
    return build_tiny_bundle(tmp_path_factory.mktemp("mode") / "bundle")


def test_a_session_says_that_its_segments_are_joined(bundle: Path) -> None:
    with Session(bundle, "onnxruntime") as session:
        assert session.engine == "onnxruntime"
        assert session.mode.joined
        assert str(session.mode) == "joined: all segments are one graph"


def test_openvino_says_that_it_runs_them_one_by_one(bundle: Path) -> None:
    with Session(bundle, "openvino") as session:
        assert not session.mode.joined
        assert "OpenVINO" in session.mode.reason


def test_segments_with_functions_run_one_by_one_and_the_session_says_why(tmp_path: Path) -> None:
    changed = build_tiny_bundle(tmp_path / "bundle")
    edit_segment(changed, lambda model: model.functions.add(name="unused", domain="some"))
    with Session(changed, "onnxruntime") as session:
        assert not session.mode.joined
        assert "functions" in session.mode.reason
        assert session.run(IDS).exit_index.tolist() == [2]


def test_a_folder_that_cannot_be_written_is_the_reason(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with Session(bundle, "onnxruntime") as session:
        assert not session.mode.joined
        assert "temporary folder" in session.mode.reason
        assert session.run(IDS).exit_index.tolist() == [2]


def test_a_lack_of_memory_is_never_a_reason_to_run_otherwise(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(onnxruntime_engine, "join_segments", full)
    with pytest.raises(ResourceError, match="Memory ran out"):
        Session(bundle, "onnxruntime")


@pytest.mark.parametrize("error", [ResourceError("no memory"), EngineError("refused")])
def test_what_an_engine_refuses_is_not_swallowed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(OnnxRuntime, "join", refuse)
    with pytest.raises(type(error), match=str(error)):
        Session(bundle, "onnxruntime")


def test_a_joined_graph_that_onnxruntime_refuses_alone_is_told(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join: Callable[..., bytes] = onnxruntime_engine.join_segments

    def broken(*arguments: object) -> bytes:
        model = onnx.ModelProto.FromString(join(*arguments))
        model.graph.node[0].op_type = "Nonsense"
        return bytes(model.SerializeToString())

    monkeypatch.setattr(onnxruntime_engine, "join_segments", broken)
    with Session(bundle, "onnxruntime") as session:
        assert not session.mode.joined
        assert "onnxruntime could not open" in session.mode.reason


def test_inspect_opens_the_segments_only_when_an_engine_is_named(bundle: Path) -> None:
    runner = CliRunner()
    plain = json.loads(runner.invoke(effbert, ["inspect", str(bundle), "--json"]).output)
    assert plain["engine"] is plain["mode"] is None
    named = ["inspect", str(bundle), "--engine", "onnxruntime"]
    opened = json.loads(runner.invoke(effbert, [*named, "--json"]).output)
    assert opened["mode"]["joined"] is True
    assert (
        "joined on onnxruntime: all segments are one graph" in runner.invoke(effbert, named).output
    )


@pytest.mark.slow
def test_bench_tells_how_every_engine_runs_the_segments(bundle: Path) -> None:
    arguments = ["bench", str(bundle), "--rounds", "1", "--batch", "1", "--lengths", "8"]
    shown = json.loads(CliRunner().invoke(effbert, [*arguments, "--json"]).output)
    assert shown["modes"]["onnxruntime"].startswith("joined: ")
    assert shown["modes"]["openvino"].startswith("one by one: ")
    assert "How the segments run" in CliRunner().invoke(effbert, arguments).output

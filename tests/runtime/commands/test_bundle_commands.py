"""`effbert inspect` and `effbert validate`: what they print, how they fail."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bundle_edits import SEGMENT, at, edit_manifest
from effbert.runtime.commands import effbert
from effbert.runtime.console import tables as cli_output


def call(*arguments: object) -> Result:
    return CliRunner().invoke(effbert, [str(argument) for argument in arguments])


def test_inspect_shows_exits_knobs_points_and_parity(bundle: Path) -> None:
    point = {
        "name": "fast",
        "knobs": {"threshold": [0.5, 0.4, 0.0]},
        "data": "held-out questions",
        "quality": {"accuracy": 0.91},
        "cost": {"layers": 1.5},
    }
    edit_manifest(bundle, at("operating_points", [point]))
    result = call("inspect", bundle)
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert ["task", "text-classification, single-label"] in lines
    assert ["parity", "0.0e+00 (allowed 1e-04) on 3 rows"] in lines
    assert ["padding", "no effect on answers"] in lines
    # 48 FLOPs a row and 128 a token in each segment; the second exit costs two of them.
    assert ["1", "2", "94", "8.29 k", "32.9 k", "1.21 kB"] in lines
    assert ["threshold", "0.0 .. 2.0", "0.0", "0.0", "yes", "earlier exits"] in lines
    point_line = [
        "fast",
        "threshold 0.5 0.4 0",
        "held-out questions",
        "accuracy 0.91",
        "layers 1.5",
        "",
    ]
    assert point_line in lines


def test_inspect_prints_json_for_machines(bundle: Path) -> None:
    summary = json.loads(call("inspect", bundle, "--json").stdout)
    assert [item["layer"] for item in summary["exits"]] == [1, 2, 3]
    assert summary["exits"][2]["flops"] == {"32": 3 * (48 + 128 * 32), "128": 3 * (48 + 128 * 128)}
    assert summary["exits"][0]["bytes"] == (bundle / SEGMENT).stat().st_size
    assert summary["knobs"][0]["name"] == "threshold"
    assert summary["padding_free"] is True


def test_validate_says_what_was_checked(bundle: Path) -> None:
    result = call("validate", bundle)
    assert result.exit_code == 0, result.output
    assert "5 intact" in result.stdout
    assert "3 give the same outputs at every exit" in result.stdout
    assert "graphs" not in result.stdout
    assert "58 nodes" in call("validate", bundle, "--deep").stdout


def test_validate_prints_json_for_machines(bundle: Path) -> None:
    facts = json.loads(call("validate", bundle, "--deep", "--json").stdout)
    assert facts.pop("max_abs_diff") < 1e-6
    size = sum(path.stat().st_size for path in bundle.iterdir() if path.name != "effbert.json")
    assert facts == {
        "valid": True, "files": 5, "bytes": size, "rows": 3, "texts": 3, "nodes": 58,
        "engine": "onnxruntime", "rows_apart": None,
    }  # fmt: skip


def truncate(bundle: Path) -> None:
    path = bundle / SEGMENT
    path.write_bytes(path.read_bytes()[:-1])


def flip(bundle: Path) -> None:
    path = bundle / SEGMENT
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def escape(bundle: Path) -> None:
    edit_manifest(bundle, at("segments.0.file", "../../etc/passwd"))


FAILURES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (truncate, "segment-00.onnx is damaged: it has"),
    "altered": (flip, "segment-00.onnx is damaged: its sha256"),
    "unknown field": (lambda b: edit_manifest(b, at("surprise", 1)), "unknown field `surprise`"),
    "newer version": (lambda b: edit_manifest(b, at("version", [2, 0])), "upgrade effbert"),
    "path that escapes": (escape, "$.segments[0].file"),
    "no manifest": (lambda b: (b / "effbert.json").unlink(), "holds no effbert.json"),
    "not JSON": (lambda b: (b / "effbert.json").write_bytes(b"{"), "not valid JSON"),
}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", FAILURES)
def test_a_bad_bundle_is_one_sentence_and_exit_code_2(
    bundle: Path, name: str, as_json: bool
) -> None:
    damage, message = FAILURES[name]
    damage(bundle)
    result = call("validate", bundle, *(["--json"] if as_json else []))
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output


def test_wrong_answers_are_exit_code_2(bundle: Path) -> None:
    edit_manifest(bundle, at("golden.0.outputs.logits.0.0", 7.0))
    result = call("validate", bundle)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Golden row 0" in result.stderr


def test_a_missing_bundle_is_exit_code_2(tmp_path: Path) -> None:
    for command in ("inspect", "validate"):
        result = call(command, tmp_path / "none")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "There is no bundle at" in result.stderr


@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_bundle_cannot_drive_the_terminal(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, on_terminal: bool
) -> None:
    hostile = "\x1b]0;owned\x07[red]x[/red]\u202e"
    edit_manifest(bundle, at("source.name", hostile))
    edit_manifest(bundle, at("labels", ["a", "b", hostile]))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: on_terminal, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    effbert(["inspect", str(bundle)], standalone_mode=False)
    shown = capsys.readouterr().out
    assert ("───" in shown) == on_terminal
    assert "]0;owned" in shown
    assert "[red]x[/red]" in shown
    assert not {"\x1b]", "\x07", "\u202e"} & {
        shown[i : i + n] for i in range(len(shown)) for n in (1, 2)
    }


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (1234567, "1.23 M"),
        (999_900, "1 M"),
        (5e15, "5e+03 T"),
    ],
)
def test_amounts_have_three_digits(value: float, text: str) -> None:
    assert cli_output.amount(value) == text

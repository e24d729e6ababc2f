"""`effbert run`: where texts come from, what is printed, and how it fails."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bundle_edits import at, edit_manifest
from effbert.runtime.commands import effbert
from task_bundles import build_token_bundle
from tiny_bundle import build_tiny_bundle


def run(bundle: Path, *arguments: Any, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(effbert, ["run", str(bundle), *map(str, arguments)], input=stdin)


def layers(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.split("\t")[2] for line in result.stdout.splitlines()]


def test_a_text_is_answered_with_label_score_layer_and_text(bundles: dict[str, Path]) -> None:
    result = run(bundles["entropy"], "a very  good\tfilm")
    label, score, layer, text = result.stdout.rstrip("\n").split("\t")
    assert label in ("negative", "neutral", "positive")
    assert 0 < float(score) <= 1
    assert layer == "layer 3/3"
    assert text == "a very good | film"


def test_texts_come_from_arguments_a_file_or_standard_input(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    lines = ["a good film", "", "the plot\twas dull", "fun\u2028slow"]
    file = tmp_path / "texts.txt"
    file.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    from_arguments = run(bundles["entropy"], "--", *lines)
    from_file = run(bundles["entropy"], "--file", file)
    from_stdin = run(bundles["entropy"], stdin="\n".join(lines))
    assert from_arguments.stdout.count("\n") == len(lines)
    assert from_arguments.stdout == from_file.stdout == from_stdin.stdout


def test_no_lines_have_no_answers(bundles: dict[str, Path]) -> None:
    result = run(bundles["entropy"], stdin="")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    "kind, knob, expected",
    [
        ("entropy", "threshold=2", "layer 1/3"),
        ("entropy", "threshold=0,2.0,0", "layer 2/3"),
        ("patience", "patience=0", "layer 1/3"),
    ],
)
def test_knobs_are_set_by_name(
    bundles: dict[str, Path], kind: str, knob: str, expected: str
) -> None:
    assert layers(run(bundles[kind], "good", "--knob", knob)) == [expected]


def test_an_operating_point_is_chosen_by_name(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "bundle")
    points = [{"name": "fast", "knobs": {"threshold": 2.0}, "data": "none"}]
    edit_manifest(bundle, at("operating_points", points))
    assert layers(run(bundle, "good", "--operating-point", "fast")) == ["layer 1/3"]


def test_json_has_one_object_a_line(bundles: dict[str, Path]) -> None:
    result = run(bundles["entropy"], "a good film", "the plot\twas dull", "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["text"] == "a good film"
    assert second["text"] == ["the plot", "was dull"]
    assert set(first) == {
        "text", "label", "label_id", "score", "scores", "probabilities", "labels",
        "exit_layer", "signal", "truncated", "deadline_hit",
    }  # fmt: skip


def test_cut_texts_and_deadlines_are_noted(bundles: dict[str, Path]) -> None:
    result = run(bundles["entropy"], "good " * 50, "--deadline-ms", "0")
    assert layers(result) == ["layer 1/3, truncated, deadline"]


def test_tokens_and_answers_are_printed(bundles: dict[str, Path]) -> None:
    tokens = run(bundles["tokens"], "good film")
    first, second = tokens.stdout.split("\t")[0].split()
    assert first.startswith("good/")
    assert second.startswith("film/")
    answer = run(bundles["questions"], "was it good ?\tthe film was fun")
    assert answer.stdout.split("\t")[0] in "the film was fun"


def test_nothing_that_is_printed_drives_the_terminal(tmp_path: Path) -> None:
    bundle = build_token_bundle(tmp_path / "bundle")
    edit_manifest(bundle, at("labels", ["\x1b[31m", "\x07", "\x9b"]))
    result = run(bundle, "good \x1b]0;title\x07 film")
    assert result.exit_code == 0
    assert not set(result.stdout) & set("\x1b\x07\x9b")


REFUSED = {
    "no bundle": (["/nowhere", "good"], "no bundle at"),
    "two sources": (["BUNDLE", "good", "--file", "x"], "not from both"),
    "no file": (["BUNDLE", "--file", "/nowhere.txt"], "/nowhere.txt cannot be read"),
    "folder": (["BUNDLE", "--file", "/"], "/ cannot be read"),
    "knob without value": (["BUNDLE", "good", "--knob", "threshold"], "is not NAME=NUMBER"),
    "knob without number": (["BUNDLE", "good", "--knob", "threshold=a"], "is not NAME=NUMBER"),
    "knob without name": (["BUNDLE", "good", "--knob", "=1"], "is not NAME=NUMBER"),
    "knob too large": (["BUNDLE", "good", "--knob", "threshold=3"], "'threshold': got 3"),
    "knob nan": (["BUNDLE", "good", "--knob", "threshold=nan"], "is not NAME=NUMBER"),
    "unknown knob": (["BUNDLE", "good", "--knob", "patience=3"], "'patience'"),
    "unknown point": (["BUNDLE", "good", "--operating-point", "fast"], "'fast'"),
    "unknown engine": (["BUNDLE", "good", "--engine", "x"], "'x' is not one of"),
    "no threads": (["BUNDLE", "good", "--threads", "0"], "0 is not in the range x>=1"),
    "negative deadline": (["BUNDLE", "good", "--deadline-ms", "-1"], "deadline_ms"),
    "three texts": (["BUNDLE", "good", "a\tb\tc"], "Text 2: 2 tabs"),
    "half a surrogate": (["BUNDLE", "good", "\ud800"], "Text 1"),
    "unknown option": (["BUNDLE", "good", "--frobnicate"], "No such option"),
}


@pytest.mark.parametrize("arguments, message", REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    bundles: dict[str, Path], arguments: list[str], message: str
) -> None:
    bundle = str(bundles["entropy"])
    result = run(*(argument.replace("BUNDLE", bundle) for argument in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_utf8_names_the_line(bundles: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(b"good\nfilm\nb\xe4d\n")
    result = run(bundles["entropy"], "--file", file)
    assert result.exit_code == 2
    assert "texts.txt, line 3" in result.stderr
    assert result.stdout == ""

"""Options and targets that do not fit: one sentence, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from checkpoints import write_deebert, write_pabee
from effbert.exporter import export
from effbert.exporter.pipeline import Report
from effbert.runtime.errors import InputError
from families import write_family

Refused = Callable[..., str]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--format", "ghost"], "'ghost' is not one of 'auto', 'cascadebert'"),
        (["--format", "pabee"], "is not a pabee checkpoint"),
        (["--format", ""], "'' is not one of 'auto'"),
        (["--task", "ghost"], "'ghost' is not one of 'auto', 'text-classification'"),
        (["--task", "question-answering"], "DeeBERT's highways classify texts"),
        (["--task", "token-classification"], "so the task is text-classification"),
        (["--exits", "4"], "no exit after layer 4; it has trained exits after layers 1, 2, 3"),
        (["--exits", "1,7,9"], "no exit after layer 7, 9"),
        (["--exits", "1,,3"], "such as 2,4,6; got '1,,3'"),
        (["--exits", "0,3"], "such as 2,4,6; got '0,3'"),
        (["--exits", "-1"], "such as 2,4,6; got '-1'"),
        (["--exits", "1.5"], "such as 2,4,6; got '1.5'"),
        (["--exits", ""], "such as 2,4,6; got ''"),
        (["--exits", "last"], "such as 2,4,6; got 'last'"),
        (["--exits", "9" * 5000], "such as 2,4,6; got '999"),
        (["--policy", "ghost"], "'ghost' is not one of 'auto', 'entropy'"),
        (["--policy", "patience-regression"], "cannot judge single-label outputs"),
        (["--knob", "ghost=1"], "has no knob ghost; it has threshold"),
        (["--policy", "patience", "--knob", "threshold=-1"], "Knob threshold: got -1, expected an"),
        (["--knob", "threshold=x"], "'threshold=x' is not NAME=NUMBER"),
        (["--knob", "threshold"], "'threshold' is not NAME=NUMBER"),
        (["--knob", "threshold="], "is not NAME=NUMBER"),
        (["--knob", "=1"], "is not NAME=NUMBER"),
        (["--knob", "threshold=nan"], "is not NAME=NUMBER"),
        (["--knob", "threshold=" + "9" * 400], "Knob threshold: got 999"),
        (["--knob", "threshold=1e39"], "Knob threshold: got 1e+39"),
        (["--policy", "patience", "--knob", "threshold=1.5"], "expected an integer from 0"),
        (["--policy", "patience", "--knob", "threshold=inf"], "expected an integer from 0"),
        (["--policy", "patience", "--knob", "threshold=513"], "expected an integer from 0"),
        (["--opset", "17"], "Opset 17 is not supported; choose 18..23"),
        (["--opset", "24"], "Opset 24 is not supported"),
        (["--opset", "x"], "'x' is not a valid integer"),
        (["--atol", "0"], "The tolerance must be positive"),
        (["--atol", "-1"], "The tolerance must be positive"),
        (["--atol", "nan"], "The tolerance must be positive"),
        (["--atol", "inf"], "The tolerance must be positive"),
        (["--atol", "x"], "'x' is not a valid float"),
        (["--samples", "nowhere.txt"], "nowhere.txt cannot be read: No such file"),
        (["--samples", "."], "cannot be read: Is a directory"),
        (["--tokenizer", "nowhere"], "nowhere holds no tokenizer; expected tokenizer.json in it"),
        (["--ghost"], "No such option"),
        (["a third argument"], "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_options_that_do_not_fit(
    refused: Refused,
    pristine_deebert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = refused(pristine_deebert, tmp_path / "bundle", *arguments)
    assert said in sentence, sentence


def test_nothing_but_a_checkpoint(refused: Refused, tmp_path: Path) -> None:
    assert "Missing argument 'BUNDLE'" in refused(tmp_path / "checkpoint")


@pytest.mark.parametrize("exits", ["1", "2,4,6", "1,2"])
def test_exits_nobody_trained(
    refused: Refused, pristine_plain: Path, tmp_path: Path, exits: str
) -> None:
    said = refused(pristine_plain, tmp_path / "bundle", "--exits", exits)
    assert "one trained head, after its last layer 2" in said
    assert "train exit heads first or leave --exits out" in said


@pytest.mark.parametrize(
    "task, policy", [("token-classification", "patience"), ("question-answering", "entropy")]
)
def test_policies_that_cannot_judge_the_outputs(
    refused: Refused, tmp_path: Path, task: str, policy: str
) -> None:
    write_family(tmp_path / "c", "bert", task)
    said = refused(tmp_path / "c", tmp_path / "bundle", "--policy", policy)
    assert f"Policy {policy} cannot judge {task} outputs" in said
    assert "choose another, such as none" in said


def test_a_policy_for_a_single_exit(refused: Refused, pristine_plain: Path, tmp_path: Path) -> None:
    said = refused(pristine_plain, tmp_path / "bundle", "--policy", "entropy")
    assert "has nothing to decide: this checkpoint has one exit, after layer 2" in said


def test_entropy_of_a_regression(refused: Refused, tmp_path: Path) -> None:
    write_pabee(tmp_path / "c", labels=1, layers=2)
    said = refused(tmp_path / "c", tmp_path / "bundle", "--policy", "entropy")
    assert "cannot judge regression outputs" in said


@pytest.mark.parametrize("value", ["0.5", [1], None, {}], ids=str)
def test_knob_values_that_are_no_numbers(
    pristine_deebert: Path, tmp_path: Path, value: object
) -> None:
    options = {"dry_run": True, "policy": "patience"}
    with pytest.raises(InputError, match="Knob threshold: got"):
        export(pristine_deebert, tmp_path / "b", knobs={"threshold": value}, **options)


def test_true_is_one_as_python_has_it(pristine_deebert: Path, tmp_path: Path) -> None:
    options = {"dry_run": True, "policy": "patience", "knobs": {"threshold": True}}
    report = export(pristine_deebert, tmp_path / "b", **options)
    assert {knob.name: knob.default for knob in report.policy.knobs} == {"threshold": 1}


# --- samples and tokenizers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "holds no text"),
        (b"\n \n\t\n", "holds no text"),
        (b"\xff\xfe", "line 1: this is not UTF-8 text"),
    ],
    ids=["empty", "blank", "binary"],
)
def test_samples_without_text(
    refused: Refused, pristine_deebert: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "samples.txt").write_bytes(content)
    bundle = tmp_path / "bundle"
    sentence = refused(pristine_deebert, bundle, "--samples", tmp_path / "samples.txt")
    assert str(tmp_path / "samples.txt") in sentence
    assert said in sentence


def export_dry(checkpoint: Path, **options: object) -> Report:
    return export(checkpoint, checkpoint.parent / "bundle", dry_run=True, **options)


def test_a_checkpoint_without_a_tokenizer_takes_token_ids_only(pristine_plain: Path) -> None:
    assert not export_dry(pristine_plain).tokenizer


def test_a_tokenizer_from_elsewhere(pristine_deebert: Path, tmp_path: Path) -> None:
    write_deebert(tmp_path / "c", layers=2, tokenizer=None)
    assert not export_dry(tmp_path / "c").tokenizer
    assert export_dry(tmp_path / "c", tokenizer=pristine_deebert).tokenizer


def test_a_tokenizer_of_a_larger_vocabulary(
    refused: Refused, pristine_plain: Path, pristine_deebert: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    said = refused(pristine_plain, bundle, "--tokenizer", pristine_deebert)
    assert f"{pristine_deebert} has a tokenizer of 121 tokens but the model knows 99" in said


def test_the_tokenizer_file_itself_is_no_folder(
    refused: Refused, pristine_deebert: Path, tmp_path: Path
) -> None:
    file = pristine_deebert / "tokenizer.json"
    said = refused(pristine_deebert, tmp_path / "bundle", "--tokenizer", file)
    assert "holds no tokenizer" in said


@pytest.mark.parametrize(
    "name, content",
    [
        ("tokenizer.json", b""),
        ("tokenizer.json", b"\xff\xfe"),
        ("tokenizer.json", b"[" * 100_000),
        ("tokenizer.json", b'{"version": "1.0", "model": {"type": "Ghost"}}'),
        ("tokenizer.json", b'{"version": "1.0", "model": {"type": "WordPiece", "vocab": 5}}'),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b"\xff"),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else value,
)
def test_a_tokenizer_that_cannot_be_read(
    refused: Refused, deebert: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    (deebert / name).write_bytes(content)
    assert str(deebert / name) in refused(deebert, tmp_path / "bundle")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"a\n" * 500], ids=["none", "bytes", "twins"]
)
def test_vocabularies_that_are_no_tokenizer(
    refused: Refused, deebert: Path, tmp_path: Path, content: bytes
) -> None:
    if len(content) > 100 and tokenizers.__version__ < "0.23":
        pytest.skip("tokenizers 0.22 prints a line of its own about such a vocabulary")
    (deebert / "tokenizer.json").unlink()
    (deebert / "vocab.txt").write_bytes(content)
    refused(deebert, tmp_path / "bundle")


@pytest.mark.parametrize(
    "length", [1e30, -5, 0, 1, "many", None, [], float("nan"), float("inf")], ids=str
)
def test_a_tokenizer_length_that_makes_no_sense_is_ignored(deebert: Path, length: object) -> None:
    (deebert / "tokenizer_config.json").write_text(json.dumps({"model_max_length": length}))
    assert export_dry(deebert).tokenizer


# --- targets -------------------------------------------------------------------------------------


def old_bundle(folder: Path) -> Path:
    """A folder that --force takes for a bundle."""
    folder.mkdir()
    (folder / "effbert.json").write_text("{}")
    return folder


def notes(folder: Path) -> Path:
    """A folder of something else."""
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    return folder


def file(path: Path) -> Path:
    """A file where the folder should be."""
    path.write_text("a file")
    return path


def link(path: Path) -> Path:
    """A link to a bundle."""
    path.symlink_to(old_bundle(path.parent / "elsewhere"))
    return path


def broken_link(path: Path) -> Path:
    """A link to nothing."""
    path.symlink_to(path.parent / "nothing")
    return path


@pytest.mark.parametrize("make", [old_bundle, notes, file, link, broken_link])
def test_what_exists_is_not_replaced_unasked(
    refused: Refused, pristine_deebert: Path, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    said = refused(pristine_deebert, make(tmp_path / "bundle"))
    assert said == f"{tmp_path / 'bundle'} exists already; pass --force to replace it."


@pytest.mark.parametrize("make", [notes, file, link, broken_link])
def test_force_replaces_bundles_only(
    refused: Refused, pristine_deebert: Path, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    said = refused(pristine_deebert, make(tmp_path / "bundle"), "--force")
    assert "--force replaces bundles only" in said


def test_the_checkpoint_itself_is_not_replaced(
    refused: Refused, deebert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "replaces bundles only" in refused(deebert, deebert, "--force")
    monkeypatch.chdir(deebert)
    assert "replaces bundles only" in refused(deebert, "", "--force")


def test_a_bad_checkpoint_keeps_the_old_bundle(
    refused: Refused, deebert: Path, tmp_path: Path
) -> None:
    (deebert / "model.safetensors").write_bytes(b"")
    refused(deebert, old_bundle(tmp_path / "bundle"), "--force")


def test_a_file_in_the_middle_of_the_path(
    refused: Refused, pristine_deebert: Path, tmp_path: Path
) -> None:
    parent = file(tmp_path / "file")
    said = refused(pristine_deebert, parent / "deep" / "bundle", code=1)
    assert "cannot be written: Not a directory" in said


def test_names_that_are_too_long(refused: Refused, pristine_deebert: Path, tmp_path: Path) -> None:
    said = refused(pristine_deebert, tmp_path / ("x" * 256), code=1)
    assert "cannot be written: File name too long" in said
    assert "cannot be read: File name too long" in refused("y" * 256, tmp_path / "bundle")


def test_a_dry_run_writes_nothing_and_needs_no_free_target(
    pristine_deebert: Path, tmp_path: Path
) -> None:
    target = notes(tmp_path / "bundle")
    report = export(pristine_deebert, target, dry_run=True)
    assert (report.size, report.manifest) == (None, None)
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("setpriv"),
    reason="gives up root's right to write anywhere",
)
def test_a_folder_that_may_not_be_written(pristine_deebert: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret").chmod(0o000)
    (tmp_path / "secret.txt").write_text("a text")
    (tmp_path / "secret.txt").chmod(0o000)
    runs = [
        [pristine_deebert, tmp_path / "locked" / "bundle"],
        [pristine_deebert, tmp_path / "locked" / "deep" / "bundle"],
        [pristine_deebert, tmp_path / "secret" / "bundle"],
        [pristine_deebert, tmp_path / "b", "--samples", tmp_path / "secret.txt"],
        [tmp_path / "secret" / "checkpoint", tmp_path / "b"],
    ]
    script = (
        "import sys\nfrom effbert.exporter.commands.export import main\n"
        "for line in sys.argv[1:]:\n"
        "    try:\n        main(line.split('|'))\n"
        "    except SystemExit as end:\n        print(end.code, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [
            *("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--", sys.executable),
            *("-c", script, *("|".join(map(str, run)) for run in runs)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    tmp_path.joinpath("secret").chmod(0o755)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.isdigit()] == ["1", "1", "1", "2", "2"], done.stderr
    assert [line for line in lines if line.startswith("Error: ")] == [
        f"Error: {tmp_path}/locked/bundle cannot be written: Permission denied.",
        f"Error: {tmp_path}/locked/deep/bundle cannot be written: Permission denied.",
        f"Error: {tmp_path}/secret/bundle cannot be written: Permission denied.",
        f"Error: Invalid value for '--samples': Path '{tmp_path}/secret.txt' is not readable.",
        f"Error: {tmp_path}/secret/checkpoint cannot be read: Permission denied.",
    ]
    assert "Traceback" not in done.stderr
    assert not os.listdir(tmp_path / "locked")

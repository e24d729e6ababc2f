"""`optimum-cli export effbert` is the export command, and a guest that breaks nothing."""

import json
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import click
import pytest

from checkpoints import write_deebert
from effbert.exporter.commands.export import export_command
from effbert.runtime import Session

pytest.importorskip("optimum.commands.optimum_cli")
from effbert.exporter.commands.optimum import ExportEffbert

pytestmark = pytest.mark.slow  # optimum alone takes seconds to import

WALLED = """
import sys
from importlib.abc import MetaPathFinder

class Wall(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {wall!r}:
            raise ImportError(name + " is walled off")

sys.meta_path.insert(0, Wall())
from {module} import main

sys.exit(main())
"""

PLUGIN = "effbert.exporter.commands.export"


def optimum_cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("optimum-cli")), "export", "effbert"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


def walled(wall: str, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the `main` of a module with the import of `wall` made to fail."""
    command = [sys.executable, "-c", WALLED.format(wall=wall, module=module), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_help_names_every_parameter_of_the_export_command() -> None:
    done = optimum_cli("--help")
    assert done.returncode == 0, done.stderr
    for parameter in export_command.params:
        for name in [*parameter.opts, *parameter.secondary_opts]:
            word = name if name.startswith("-") else name.upper()
            assert word in done.stdout


@pytest.mark.slow
def test_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    checkpoint = write_deebert(tmp_path / "checkpoint", layers=2, tokenizer="fast")
    options = ("--exits", "2", "--knob", "threshold=0.5", "--dry-run", "--json")
    done = optimum_cli(checkpoint, tmp_path / "bundle", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["exits"], found["knobs"], found["written"]) == ([2], {"threshold": 0.5}, False)


@pytest.mark.slow
def test_a_checkpoint_is_exported(tmp_path: Path) -> None:
    checkpoint = write_deebert(tmp_path / "checkpoint", layers=2, tokenizer="fast")
    done = optimum_cli(checkpoint, tmp_path / "bundle", "--exits", "all", "--json")
    assert done.returncode == 0, done.stderr
    assert Session(tmp_path / "bundle")(["a good film"])[0].exit_layer >= 1


def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = optimum_cli(tmp_path / "missing", tmp_path / "bundle")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["in", "out"],
        ["in", "out", "--knob", "threshold=0.3", "--knob", "b=-1"],
        ["--no-verify", "--opset=18", "in", "--dry-run", "out"],
        ["--", "-in", "out"],
    ],
    ids=" ".join,
)
def test_arguments_mean_what_they_mean_to_effbert_export(words: list[str]) -> None:
    parser = ArgumentParser()
    ExportEffbert.parse_args(parser)
    namespace = parser.parse_args(words)
    handed_on = ExportEffbert.command_line(namespace)
    assert parsed_by_click(handed_on) == parsed_by_click(words)


def parsed_by_click(words: list[str]) -> dict[str, object]:
    context = click.Context(export_command, resilient_parsing=True)
    export_command.parse_args(context, list(words))
    return context.params


def test_optimum_cli_survives_a_broken_effbert() -> None:
    done = walled(PLUGIN, "optimum.commands.optimum_cli", "export", "--help")
    assert done.returncode == 0, done.stderr
    assert f"is unavailable: {PLUGIN} is walled off" in done.stderr


def test_effbert_works_without_optimum() -> None:
    done = walled("optimum", "effbert.exporter.commands.export", "--help")
    assert done.returncode == 0, done.stderr
    assert "export" in done.stdout

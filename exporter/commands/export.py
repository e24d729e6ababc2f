"""`effbert-export`, which is `effbert export` too."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field
from pathlib import Path
from typing import Any

import click

from effbert.exporter.commands.export_report import print_report, summarize
from effbert.exporter.commands.extra import require_extra
from effbert.exporter.options import OUTPUT, Meaning, flag_of, meanings
from effbert.runtime.console.groups import GroupedCommand
from effbert.runtime.console.parameters import GroupedOption

EXAMPLES = """
\b
Examples:
  effbert-export ./my-deebert ./bundle
  effbert-export textattack/bert-base-uncased-SST-2 ./bundle
  effbert-export ./my-pabee ./bundle --exits 4,8,12 --knob threshold=3
  effbert-export ./my-deebert ./bundle --precision int8 --calibration train.csv
  effbert-export ./my-deebert ./bundle --dry-run
"""


def _click_option(each: Field[Any], meaning: Meaning) -> click.Option:
    """Make the option of a field: a flag, a pair of flags, a list or a value."""
    name = flag_of(each, meaning)
    settings: dict[str, Any] = {"help": meaning.help, "group": meaning.group}
    if isinstance(each.default, bool):
        flags = f"{name}/--no-{name.removeprefix('--')}" if each.default else name
        settings |= {"is_flag": True, "default": each.default, "show_default": each.default}
        return GroupedOption([flags, each.name], **settings)
    settings |= {"type": meaning.type, "metavar": meaning.metavar, "multiple": meaning.several}
    if not meaning.several:
        settings |= {"default": each.default, "show_default": each.default is not None}
    return GroupedOption([name, each.name], **settings)


PARAMETERS = [
    click.Argument(["checkpoint"]),
    click.Argument(["bundle"], type=click.Path(path_type=Path)),
    *(_click_option(*each) for each in meanings()),
    GroupedOption(["--json", "as_json"], is_flag=True, group=OUTPUT, help="Print one JSON object."),
]


def _run(
    checkpoint: str, bundle: Path, knobs: Sequence[Any], as_json: bool, **options: Any
) -> None:
    """Export CHECKPOINT (folder, weights file or hub id) to the folder BUNDLE."""
    with _progress(quiet=as_json) as say:
        say("importing torch")
        require_extra("torch", "transformers", "safetensors", "onnxruntime")
        from effbert.exporter import export

        report = export(checkpoint, bundle, progress=say, knobs=dict(knobs), **options)
    if as_json:
        click.echo(json.dumps(summarize(report), indent=2))
    else:
        print_report(report)


export_command = GroupedCommand(
    "export", params=PARAMETERS, callback=_run, help=_run.__doc__, epilog=EXAMPLES
)
export_command = click.version_option(package_name="effbert", prog_name="effbert-export")(
    export_command
)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show the current step on a terminal; say nothing when piped."""
    if quiet or not sys.stderr.isatty():
        yield lambda phrase: None
        return
    from rich.console import Console

    with Console(stderr=True).status("...") as status:
        yield lambda phrase: status.update(f"{phrase} ...")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `effbert-export`; the arguments are those of the process by default."""
    export_command.main(arguments, prog_name="effbert-export")

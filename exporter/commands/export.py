"""`effbert-export`, which is `effbert export` too."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from effbert.exporter.commands.extra import require_extra
from effbert.exporter.commands.report import print_report, summarize
from effbert.runtime.console.groups import Reporting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from effbert.exporter.pipeline import Report

EXAMPLES = """
\b
Examples:
  effbert-export ./my-deebert ./bundle
  effbert-export textattack/bert-base-uncased-SST-2 ./bundle
  effbert-export ./my-pabee ./bundle --exits 4,8,12 --knob threshold=3
  effbert-export ./my-deebert ./bundle --precision int8 --calibration train.csv
  effbert-export ./checkpoint ./bundle --dry-run
"""


class Knob(click.ParamType):
    """NAME=VALUE with a number as value, or several with commas; integers stay integers."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        """Split and read one knob."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        found = [_number(part) for part in text.split(",")]
        if not name or not equals or any(number != number for number in found):
            self.fail(
                f"{value!r} is not NAME=NUMBER, such as threshold=0.3, or one number an exit, such "
                "as threshold=0.3,0.2,0.2.",
                param,
                ctx,
            )
        return name, found if len(found) > 1 else found[0]


class Counts(click.ParamType):
    """Positive integers with commas between."""

    name = "counts"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Read them."""
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if not all(part.strip().isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is not a list of counts such as 64,40,20.", param, ctx)
        return tuple(map(int, parts))


def _number(text: str) -> float | int:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return float("nan")


@click.command("export", cls=Reporting, epilog=EXAMPLES)
@click.argument("checkpoint")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--format", default="auto", help="Checkpoint format (`effbert formats` lists them) or auto."
)
@click.option(
    "--task",
    default="auto",
    help="auto, text-classification, token-classification or question-answering.",
)
@click.option(
    "--exits",
    default="all",
    metavar="all|N,N,..",
    help="Encoder layers to exit after; the deepest one ends the model.",
)
@click.option("--policy", default="auto", help="Exit policy; auto is that of the paper.")
@click.option(
    "--knob",
    "knobs",
    multiple=True,
    type=Knob(),
    help="Default value of a knob, repeatable; without it nothing exits early.",
)
@click.option(
    "--last-highway",
    type=click.Choice(["on", "off"]),
    help="Consult the highway after the last layer; the paper's own way if left out.",
)
@click.option(
    "--layers",
    metavar="N,N,..|RULE:K",
    help="Encoder layers to run, such as 1,3,5, or K to leave out by the rule top, bottom, "
    "alternate or symmetric; for checkpoints with one exit.",
)
@click.option(
    "--widths",
    metavar="F,F,..",
    help="Shares of each layer's heads and neurons, such as 0.25,0.5,0.75,1; every combination "
    "with --depths becomes a variant (DynaBERT).",
)
@click.option(
    "--depths", metavar="F,F,..", help="Shares of the encoder layers, such as 0.5,0.75,1."
)
@click.option(
    "--length-adaptive", is_flag=True, help="Add the knob `lengths`: tokens that leave each layer."
)
@click.option(
    "--keep-cls",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="Never drop the first token; auto drops it for question answering only.",
)
@click.option(
    "--retention",
    type=Counts(),
    metavar="N,N,..",
    help="PoWER-BERT's tokens left after each layer: --length-adaptive with these as default.",
)
@click.option(
    "--pad-to",
    type=click.IntRange(min=2),
    metavar="N",
    help="Pad every row to N tokens in the graph, padding voting too: the papers' arithmetic; with "
    "--length-adaptive or --retention.",
)
@click.option(
    "--opset",
    default=23,
    show_default=True,
    help="ONNX opset, 18 to 23. Below 23, attention is spelled out, as TensorRT needs it.",
)
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    help="fp32; fp16 and bf16 store weights in 16 bits; int8 computes on integers with fixed "
    "scales; int8-weight and int4-weight store weights in blocks.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Texts to choose int8 scales on: a CSV file with a column text, or one text a line.",
)
@click.option(
    "--keep-float",
    multiple=True,
    metavar="MODULE",
    help="Part of the model to leave in float32, such as encoder.layer.3.output; repeatable.",
)
@click.option(
    "--min-agreement",
    type=float,
    default=0.9,
    show_default=True,
    help="Below fp32: the share of answers and exit decisions that must be those of torch.",
)
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Compare every exit with torch before the bundle appears.",
)
@click.option("--atol", type=float, help="Largest difference to torch; 1e-4 for most models.")
@click.option(
    "--samples",
    type=click.Path(path_type=Path),
    help="Texts to verify on, one a line, pairs separated by a tab.",
)
@click.option(
    "--fit-temperature",
    type=click.Path(path_type=Path),
    help="CSV file with columns text and label, to fit one temperature an exit on.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    help="Folder of the tokenizer, if it is not in the checkpoint.",
)
@click.option("--dry-run", is_flag=True, help="Detect and load only; write nothing.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export_command(
    checkpoint: str,
    bundle: Path,
    knobs: tuple[Any, ...],
    last_highway: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Export CHECKPOINT (folder, weights file or hub id) to the folder BUNDLE."""
    with _progress(quiet=as_json) as say:
        say("importing torch")
        report = _export()(
            checkpoint,
            bundle,
            knobs=dict(knobs),
            last_highway=None if last_highway is None else last_highway == "on",
            progress=say,
            **options,
        )
    if as_json:
        click.echo(json.dumps(summarize(report), indent=2))
    else:
        print_report(report)


def _export() -> Callable[..., Report]:
    require_extra("torch", "transformers", "safetensors", "onnxruntime")
    from effbert.exporter import export

    return export


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

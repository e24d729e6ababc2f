"""`effbert report`: what a bundle is, costs and knows, on one page."""

from __future__ import annotations

from pathlib import Path

import click

from effbert.runtime.commands.progress import counted, status
from effbert.runtime.commands.shared_options import engine_option, json_option, threads_option
from effbert.runtime.commands.tune import METRICS
from effbert.runtime.console.groups import GroupedCommand
from effbert.runtime.console.parameters import grouped_option
from effbert.runtime.console.tables import printable

DATA, OUTPUT = "Examples", "Output"
EXAMPLES = """
\b
Examples:
  effbert report ./bundle
  effbert report ./bundle --data test.csv --output report.html
  effbert report ./bundle --data test.csv --figures figures --json
"""


@click.command(cls=GroupedCommand, epilog=EXAMPLES)
@click.argument("bundle")
@grouped_option(
    DATA,
    "--data",
    type=click.Path(path_type=Path),
    help="Examples such as effbert tune reads, with or without labels. Without any, the page says "
    "what the manifest says.",
)
@grouped_option(DATA, "--text", metavar="COLUMN", help="Column of the texts, words or questions.")
@grouped_option(DATA, "--pair", metavar="COLUMN", help="Column of second texts or contexts.")
@grouped_option(DATA, "--label", metavar="COLUMN", help="Column of the right answers.")
@grouped_option(DATA, "--skip-bad", is_flag=True, help="Leave out lines that cannot be read.")
@grouped_option(
    DATA,
    "--metric",
    type=click.Choice(METRICS),
    help="What quality is; by default the usual one of the task.",
)
@grouped_option(
    OUTPUT,
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page; NAME-OF-BUNDLE.html in the current folder by default.",
)
@grouped_option(
    OUTPUT,
    "--figures",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also write every plot as SVG and PNG into this folder.",
)
@engine_option
@threads_option
@json_option()
def report(
    bundle: str,
    data: Path | None,
    text: str | None,
    pair: str | None,
    label: str | None,
    skip_bad: bool,
    metric: str | None,
    output: Path | None,
    figures: Path | None,
    engine: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write a page about BUNDLE: operating points, exits, confidence, cost, parity, hashes.

    With examples, all exits answer each of them once; what effbert tune has kept is used again. The
    page is one file that opens anywhere, without a network.
    """
    import msgspec

    from effbert.runtime.points.examples import Columns
    from effbert.runtime.report.collect import Asked, collect
    from effbert.runtime.report.page import require_libraries, write_page
    from effbert.runtime.report.written import check_target, write_figures, write_text

    require_libraries()
    target = output or Path(f"{Path(bundle).resolve().name}.html")
    check_target(target)
    asked = Asked(bundle, data, Columns(text, pair, label), skip_bad, metric, engine, threads)
    with status(quiet=as_json) as say:
        tell = counted(say)
        findings = collect(asked, tell)
    write_text(target, write_page(findings))
    drawn = [] if figures is None else write_figures(figures, findings)
    if as_json:
        click.echo(msgspec.json.encode(findings).decode())
        return
    click.echo(f"Report: {printable(target)}")
    if drawn:
        click.echo(f"Figures: {len(drawn)} files in {printable(figures)}")

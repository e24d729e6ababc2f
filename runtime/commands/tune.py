"""`effbert tune`: operating points for what a user wants, chosen on examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from effbert.runtime.commands.progress import counting
from effbert.runtime.commands.shared_options import engine_option, json_option, threads_option
from effbert.runtime.console.groups import GroupedCommand
from effbert.runtime.console.parameters import grouped_option
from effbert.runtime.console.tables import print_table

if TYPE_CHECKING:
    from effbert.runtime.points.targets import Target
    from effbert.runtime.points.tuning import Tuned

WANTED, DATA = "What to keep", "Examples"
LOSSES = (0.0, 0.5, 2.0)  # points of accuracy, where nothing is asked for
METRICS = (
    *("accuracy", "f1", "matthews", "micro-f1", "pearson", "spearman", "negative-mse"),
    *("answer-f1", "exact-match", "agreement"),
)
EXAMPLES = """
\b
Examples:
  effbert tune ./bundle --data heldout.csv
  effbert tune ./bundle --data heldout.csv --max-loss 0.5 --speedup 2
  effbert tune ./bundle --data heldout.jsonl --guarantee 0.95 --risk 1%
  effbert run ./bundle --operating-point loss-0.5 "A sentence."
"""


class Share(click.ParamType):  # type: ignore[type-arg]  # click 8.2 takes none
    """A share, such as 0.01 or 1%."""

    name = "share"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Read it; refuse what is not between 0 and 1."""
        try:
            text = str(value).strip()
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = -1.0
        if not 0 < share < 1:
            self.fail(f"{value!r} is no share such as 0.01 or 1%.", param, ctx)
        return share


@click.command(cls=GroupedCommand, epilog=EXAMPLES)
@click.argument("bundle")
@grouped_option(
    WANTED,
    "--max-loss",
    multiple=True,
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Lose at most so much quality against full depth, in percentage points; becomes the "
    "operating point loss-POINTS. Without any option of this group: 0, 0.5 and 2.",
)
@grouped_option(
    WANTED,
    "--quality",
    multiple=True,
    type=float,
    metavar="Q",
    help="Keep a quality, such as 0.9; becomes quality-Q.",
)
@grouped_option(
    WANTED,
    "--speedup",
    multiple=True,
    type=click.FloatRange(min=1),
    metavar="TIMES",
    help="Answer so many times as fast as at full depth, text by text; becomes speedup-TIMES.",
)
@grouped_option(
    WANTED,
    "--latency-ms",
    multiple=True,
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="Take so many milliseconds a text on average; becomes latency-MS.",
)
@grouped_option(
    WANTED,
    "--guarantee",
    type=Share(),
    metavar="P",
    help="With probability P, the expected loss against full depth is at most --risk; becomes "
    "guaranteed.",
)
@grouped_option(WANTED, "--risk", type=Share(), default="1%", show_default=True, metavar="LOSS")
@grouped_option(
    WANTED,
    "--metric",
    type=click.Choice(METRICS),
    help="What quality is; by default the usual one of the task, and without labels agreement "
    "with full depth.",
)
@grouped_option(
    WANTED,
    "--as-default",
    metavar="POINT",
    help="Let this operating point be what runs where a call gives no knobs.",
)
@grouped_option(
    DATA,
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="A .csv, .tsv, .jsonl or .parquet file, or a folder that save_to_disk of the datasets "
    "library wrote. Labels are names or ids, and may be missing.",
)
@grouped_option(DATA, "--text", metavar="COLUMN", help="Column of the texts, words or questions.")
@grouped_option(DATA, "--pair", metavar="COLUMN", help="Column of second texts or contexts.")
@grouped_option(DATA, "--label", metavar="COLUMN", help="Column of the right answers.")
@grouped_option(DATA, "--skip-bad", is_flag=True, help="Leave out lines that cannot be read.")
@engine_option
@threads_option
@json_option()
def tune(
    bundle: str,
    data: Path,
    max_loss: tuple[float, ...],
    quality: tuple[float, ...],
    speedup: tuple[float, ...],
    latency_ms: tuple[float, ...],
    guarantee: float | None,
    risk: float,
    metric: str | None,
    as_default: str | None,
    text: str | None,
    pair: str | None,
    label: str | None,
    skip_bad: bool,
    engine: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Choose operating points of BUNDLE on examples.

    All exits answer every example once; thresholds are then tried without the model, and what is
    chosen is checked and timed on the model. Answers are kept beside the bundle, so that another
    call on the same examples is quick.
    """
    from effbert.runtime.bundle.hub import require_folder
    from effbert.runtime.bundle.manifest import Guarantee
    from effbert.runtime.points.examples import Columns
    from effbert.runtime.points.tuning import Tuning
    from effbert.runtime.points.tuning import tune as run

    require_folder(bundle)
    if not (max_loss or quality or speedup or latency_ms or guarantee):
        max_loss = LOSSES
    options = Tuning(
        bundle=Path(bundle),
        data=data,
        targets=_targets(metric, max_loss, quality, speedup, latency_ms),
        guarantee=Guarantee(risk=risk, confidence=guarantee) if guarantee else None,
        metric=metric,
        columns=Columns(text, pair, label),
        skip_bad=skip_bad,
        engine=engine,
        threads=threads,
        default=as_default,
    )
    with counting(quiet=as_json) as tell:
        tuned = run(options, tell)
    _print(tuned, as_json)


def _targets(
    metric: str | None,
    losses: tuple[float, ...],
    qualities: tuple[float, ...],
    speedups: tuple[float, ...],
    latencies: tuple[float, ...],
) -> list[Target]:
    from effbert.runtime.points.targets import Target

    points = 1 if metric == "negative-mse" else 100
    return [
        *(Target("loss", value / points, f"loss-{value:g}") for value in losses),
        *(Target("quality", value, f"quality-{value:g}") for value in qualities),
        *(Target("speedup", value, f"speedup-{value:g}") for value in speedups),
        *(Target("latency", value, f"latency-{value:g}") for value in latencies),
    ]


def _print(tuned: Tuned, as_json: bool) -> None:
    if as_json:
        from msgspec import to_builtins

        quality, cost = tuned.full
        summary = {
            "points": to_builtins(tuned.points),
            "metric": tuned.metric.name,
            "full": {"quality": quality, "ms": cost},
            "examples": tuned.examples,
            "skipped": tuned.skipped,
            "unmet": tuned.unmet,
        }
        click.echo(json.dumps(summary))
        return
    if tuned.points:
        first = tuned.points[0]
        rows = [
            (point.name, *point.quality.values(), *point.cost.values(), _knobs(point.knobs))
            for point in tuned.points
        ]
        columns = ("point", *first.quality, *first.cost, "knobs")
        print_table(f"Operating points, chosen on {tuned.examples} examples", columns, rows)
    for name, reason in tuned.unmet.items():
        click.echo(f"{name} was not chosen: {reason}.", err=True)
    if tuned.skipped:
        lines = ", ".join(map(str, tuned.skipped[:10])) + (
            ", ..." if len(tuned.skipped) > 10 else ""
        )
        click.echo(f"{len(tuned.skipped)} lines were left out: {lines}.", err=True)


def _knobs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + " ".join(_short(each) for each in value) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

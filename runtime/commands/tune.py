"""`effbert tune`: operating points for what a user wants, chosen on examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from effbert.runtime.commands.progress import counted, counted_lengths, status
from effbert.runtime.commands.shared_options import engine_option, json_option, threads_option
from effbert.runtime.console.groups import GroupedCommand
from effbert.runtime.console.parameters import grouped_option
from effbert.runtime.console.tables import print_table

if TYPE_CHECKING:
    from effbert.runtime.points.targets import Target
    from effbert.runtime.points.tuning import Tuned

WANTED, DATA, EVOLUTION, RUNNING = "What to keep", "Examples", "Evolution of lengths", "Running"
INTERRUPTED = 130
COUNT = click.IntRange(0, 10_000)
SEED = click.IntRange(0, 2**32 - 1)
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
  effbert tune ./bundle --data heldout.csv --front --cost flops
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
    "--front",
    is_flag=True,
    help="Store the Pareto front of quality against cost as well: front-1 (the cheapest), front-2, "
    "... An earlier front goes.",
)
@grouped_option(
    WANTED,
    "--cost",
    type=click.Choice(["latency", "throughput", "flops"]),
    default="latency",
    show_default=True,
    help="What is to be low: the time of a text alone, its time among 32 of its length, or counted "
    "FLOPs.",
)
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
@grouped_option(EVOLUTION, "--generations", type=COUNT, default=30, show_default=True)
@grouped_option(EVOLUTION, "--population", type=COUNT, default=20, show_default=True)
@grouped_option(EVOLUTION, "--mutations", type=COUNT, default=30, show_default=True)
@grouped_option(EVOLUTION, "--crossovers", type=COUNT, default=30, show_default=True)
@grouped_option(
    EVOLUTION,
    "--mutation-probability",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
)
@grouped_option(EVOLUTION, "--seed", type=SEED, default=0, show_default=True)
@engine_option
@threads_option
@grouped_option(
    RUNNING,
    "--plot",
    type=click.Path(path_type=Path),
    help="Draw what the front was found among into this file; implies --front.",
)
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
    front: bool,
    cost: str,
    metric: str | None,
    as_default: str | None,
    text: str | None,
    pair: str | None,
    label: str | None,
    skip_bad: bool,
    generations: int,
    population: int,
    mutations: int,
    crossovers: int,
    mutation_probability: float,
    seed: int,
    engine: str | None,
    threads: int | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Choose operating points of BUNDLE on examples.

    All exits answer every example once; thresholds are then tried without the model, and what is
    chosen is checked and timed on the model. Where tokens can be dropped, lengths evolve first.
    What was found is kept beside the bundle: another call on the same examples is quick, and one
    that was interrupted goes on.
    """
    from effbert.runtime.bundle.hub import require_folder
    from effbert.runtime.bundle.manifest import Guarantee
    from effbert.runtime.plots import check_plot
    from effbert.runtime.points.evolution import Settings
    from effbert.runtime.points.examples import Columns
    from effbert.runtime.points.length_search import Evolution
    from effbert.runtime.points.tuning import Tuning
    from effbert.runtime.points.tuning import tune as run

    require_folder(bundle)
    if plot is not None:
        check_plot(plot)
        front = True
    if latency_ms and cost != "latency":
        raise click.UsageError(
            f"--latency-ms is the time of a text alone; leave --cost {cost} out."
        )
    if not (max_loss or quality or speedup or latency_ms or guarantee or front):
        max_loss = LOSSES
    settings = Settings(population, mutations, crossovers, mutation_probability, seed)
    options = Tuning(
        bundle=Path(bundle),
        data=data,
        targets=_targets(metric, max_loss, quality, speedup, latency_ms),
        guarantee=Guarantee(risk=risk, confidence=guarantee) if guarantee else None,
        front=front,
        cost=cost,  # type: ignore[arg-type]  # one of the choices
        metric=metric,
        columns=Columns(text, pair, label),
        skip_bad=skip_bad,
        evolution=Evolution(generations, settings),
        engine=engine,
        threads=threads,
        default=as_default,
    )
    try:
        with status(quiet=as_json) as say:
            tuned = run(options, counted(say), counted_lengths(say, options.evolution.most))
    except KeyboardInterrupt:
        click.echo("Interrupted; the same command goes on from here.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    if plot is not None:
        _draw(tuned, cost, data, plot)
    _print(tuned, cost, as_json)


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


def _draw(tuned: Tuned, cost: str, data: Path, path: Path) -> None:
    from effbert.runtime.points.front_plot import draw_front

    draw_front(tuned.outcomes, tuned.full[1], cost, f"{tuned.metric.name} on {data.name}", path)


def _print(tuned: Tuned, cost: str, as_json: bool) -> None:
    if as_json:
        from msgspec import to_builtins

        quality, spent = tuned.full
        summary = {
            "points": to_builtins(tuned.points),
            "metric": tuned.metric.name,
            "full": {"quality": quality, "mflops" if cost == "flops" else "ms": spent},
            "examples": tuned.examples,
            "evolved": tuned.evolved,
            "configurations": tuned.configurations,
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
        title = f"Operating points, chosen on {tuned.examples} examples"
        if tuned.configurations:
            title += f" among {tuned.configurations} lengths, evolved on {tuned.evolved} others"
        print_table(title, columns, rows)
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

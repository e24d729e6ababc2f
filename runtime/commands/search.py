"""`effbert search`: knob values that trade accuracy for cost, found on labelled texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from effbert.runtime.commands.shared_options import engine_option, json_option, threads_option
from effbert.runtime.console.groups import GroupedCommand
from effbert.runtime.console.parameters import grouped_option
from effbert.runtime.console.tables import print_table

if TYPE_CHECKING:
    from effbert.runtime.points.evolution import Evaluated
    from effbert.runtime.points.front_search import Found

INTERRUPTED = 130
COUNT = click.IntRange(0, 10_000)
SEED = click.IntRange(0, 2**32 - 1)


EXAMPLES = """
\b
Examples:
  effbert search ./bundle --data heldout.csv
  effbert search ./bundle --data heldout.csv --over threshold --cost flops --plot front.svg
"""
WHAT, EVOLUTION, RUNNING = "What to search", "Evolution", "Running"


@click.command(cls=GroupedCommand, epilog=EXAMPLES)
@click.argument("bundle")
@grouped_option(
    WHAT,
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="CSV file with the columns text and label.",
)
@grouped_option(
    WHAT,
    "--over",
    multiple=True,
    metavar="KNOB,..",
    help="Knobs to search, lengths or threshold; by default those that the bundle has.",
)
@grouped_option(
    WHAT,
    "--cost",
    type=click.Choice(["latency", "flops"]),
    default="latency",
    show_default=True,
    help="Measured time, or counted FLOPs.",
)
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
@grouped_option(
    RUNNING,
    "--store",
    type=click.Path(path_type=Path),
    help="File of the evaluated genes; BUNDLE.search.jsonl if left out.",
)
@grouped_option(RUNNING, "--resume", is_flag=True, help="Go on with the search in the store.")
@engine_option
@threads_option
@grouped_option(
    RUNNING,
    "--plot",
    type=click.Path(path_type=Path),
    help="Draw the genes into this file.",
)
@json_option()
def search(
    bundle: str,
    data: Path,
    over: tuple[str, ...],
    cost: str,
    generations: int,
    population: int,
    mutations: int,
    crossovers: int,
    mutation_probability: float,
    seed: int,
    store: Path | None,
    resume: bool,
    engine: str | None,
    threads: int | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Search knob values of BUNDLE that trade accuracy for cost.

    The Pareto front becomes the operating points front-1, front-2, ... of the bundle, the cheapest
    first. Every value tried is stored, so a search that was interrupted goes on with --resume.
    """
    from effbert.runtime.bundle.hub import require_folder
    from effbert.runtime.plots import check_plot
    from effbert.runtime.points import front_search as points
    from effbert.runtime.points.evolution import Settings
    from effbert.runtime.points.front_plot import draw_front

    if plot is not None:
        check_plot(plot)
    require_folder(bundle)
    folder = Path(bundle).absolute()
    options = points.Search(
        bundle=Path(bundle),
        data=data,
        store=store or folder.with_name(f"{folder.name}.search.jsonl"),
        over=tuple(dict.fromkeys(",".join(over).split(","))) if over else None,
        cost=cost,
        generations=generations,
        settings=Settings(population, mutations, crossovers, mutation_probability, seed),
        resume=resume,
        engine=engine,
        threads=threads,
    )
    most = 4 + population + generations * (mutations + crossovers)
    try:
        with _progress(most, quiet=as_json) as tell:
            found = points.search(options, tell)
    except KeyboardInterrupt:
        click.echo(
            f"Interrupted; go on with the same command and --resume ({options.store}).", err=True
        )
        raise click.exceptions.Exit(INTERRUPTED) from None
    if plot is not None:
        draw_front(found.evaluated, cost, data.name, plot)
    _print(found, options.store, as_json)


def _print(found: Found, store: Path, as_json: bool) -> None:
    if as_json:
        from msgspec import to_builtins

        points = to_builtins(found.points)
        summary = {"points": points, "evaluated": len(found.evaluated), "store": str(store)}
        click.echo(json.dumps(summary))
        return
    first = found.points[0]
    qualities = (f"{name}, %" for name in first.quality)
    columns = ("point", *first.cost, *qualities, *first.knobs)
    rows = [
        (
            point.name,
            *point.cost.values(),
            *point.quality.values(),
            *map(_values, point.knobs.values()),
        )
        for point in found.points
    ]
    title = f"Front of {len(found.evaluated)} evaluated, now operating points of the bundle"
    print_table(title, columns, rows)


def _values(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@contextmanager
def _progress(most: int, quiet: bool) -> Iterator[Callable[[Evaluated], None]]:
    """Show how far the search is on a terminal; say nothing in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("generation {task.fields[generation]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=most, generation=0)
        yield lambda item: bar.update(task, advance=1, generation=item.generation)

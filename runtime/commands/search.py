"""`effbert search`: knob values that trade accuracy for cost, found on labelled texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from effbert.runtime.commands.options import engine_options
from effbert.runtime.console.groups import Reporting
from effbert.runtime.console.tables import print_table

if TYPE_CHECKING:
    from effbert.runtime.points.evolution import Evaluated
    from effbert.runtime.points.search import Found

INTERRUPTED = 130
COUNT = click.IntRange(0, 10_000)
SEED = click.IntRange(0, 2**32 - 1)


@click.command(cls=Reporting)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="CSV file with the columns text and label.",
)
@click.option(
    "--over",
    default=("lengths",),
    multiple=True,
    show_default=True,
    metavar="KNOB,..",
    help="Knobs to search: lengths, threshold or both.",
)
@click.option(
    "--cost",
    type=click.Choice(["latency", "flops"]),
    default="latency",
    show_default=True,
    help="Measured time, or counted FLOPs.",
)
@click.option("--generations", type=COUNT, default=30, show_default=True)
@click.option("--population", type=COUNT, default=20, show_default=True)
@click.option("--mutations", type=COUNT, default=30, show_default=True)
@click.option("--crossovers", type=COUNT, default=30, show_default=True)
@click.option("--mutation-probability", type=click.FloatRange(0, 1), default=0.5, show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="File of the evaluated genes; BUNDLE.search.jsonl if left out.",
)
@click.option("--resume", is_flag=True, help="Go on with the search in the store.")
@engine_options
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the genes into this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def search(
    bundle: Path,
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
    engine: str,
    threads: int | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Search knob values of BUNDLE that trade accuracy for cost.

    The Pareto front becomes the operating points front-1, front-2, ... of the bundle, the cheapest
    first. Every value tried is stored, so a search that was interrupted goes on with --resume.
    """
    from effbert.runtime.plots import check_plot
    from effbert.runtime.points import search as points
    from effbert.runtime.points.evolution import Settings
    from effbert.runtime.points.front_plot import draw_front

    if plot is not None:
        check_plot(plot)
    folder = bundle.absolute()
    options = points.Search(
        bundle=bundle,
        data=data,
        store=store or folder.with_name(f"{folder.name}.search.jsonl"),
        over=tuple(dict.fromkeys(",".join(over).split(","))),
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
    """Shows how far the search is on a terminal; says nothing in a pipe."""
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

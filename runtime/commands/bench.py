"""`effbert bench`: how fast a bundle answers on this machine."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.commands.shared_options import (
    device_options,
    json_option,
    revision_option,
    threads_option,
)
from effbert.runtime.console.groups import Reporting
from effbert.runtime.console.parameters import NumberList
from effbert.runtime.console.tables import print_table
from effbert.runtime.engines.table import ENGINES
from effbert.runtime.engines.threads import Threads, choose_threads

if TYPE_CHECKING:
    from effbert.runtime.bench.timing import Measured
    from effbert.runtime.bench.workloads import Workload

LARGEST = 65_536


EXAMPLES = """
\b
Examples:
  effbert bench ./bundle --threads 2
  effbert bench ./bundle --data texts.csv --batch 1,32 --plot times.svg
"""


@click.command(cls=Reporting, epilog=EXAMPLES)
@click.argument("bundle")
@revision_option
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Texts to measure instead of token ids: a .csv with the column text, or one a line.",
)
@click.option(
    "--batch",
    type=NumberList(1, LARGEST, "1,8,32"),
    metavar="N,N,..",
    default="1,8,32",
    show_default=True,
    help="Rows a call.",
)
@click.option(
    "--lengths",
    type=NumberList(1, LARGEST, "1,8,32"),
    metavar="N,N,..",
    help="Tokens a row, without --data; left out: 16 to 256 as far as the model reads, and a mix "
    "of lengths as sentences have them.",
)
@threads_option
@device_options
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=7,
    show_default=True,
    help="Turns of each arm.",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the times into this file.")
@json_option()
def bench(
    bundle: str,
    revision: str | None,
    data: Path | None,
    batch: tuple[int, ...],
    lengths: tuple[int, ...] | None,
    threads: int | None,
    rounds: int,
    plot: Path | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Measure how fast BUNDLE answers with every engine that can run it here.

    Random token ids run to the last exit. With --data, every operating point is measured too, on
    texts in the order of the file; tokenizing is not counted. The arms take turns, and ratios
    compare turns of the same round.
    """
    from effbert.runtime.bench.arms import all_points, full_depth, open_arms
    from effbert.runtime.bench.timing import measure
    from effbert.runtime.bench.workloads import random_workloads, text_workloads

    if plot is not None:
        from effbert.runtime.plots import check_plot

        check_plot(plot)
    opened = open_bundle(bundle, revision)
    batches = [*dict.fromkeys(batch)]
    if data is None:
        points, workloads = full_depth(opened.manifest), random_workloads(opened, batches, lengths)
    else:
        points, workloads = all_points(opened.manifest), text_workloads(opened, batches, data)
    results: list[Measured] = []
    chosen = choose_threads(threads)
    progress = _progress(workloads, quiet=as_json)
    with open_arms(opened, threads, points, where) as (arms, skipped), progress as steps:
        modes = {arm.engine: str(arm.session.mode) for arm in arms}
        for workload in steps:
            results += measure(arms, workload, rounds)
    if plot is not None:
        from effbert.runtime.bench.times_plot import draw_times

        draw_times(results, plot)
    if as_json:
        found = {
            "modes": modes,
            "skipped": skipped,
            "results": [result._asdict() for result in results],
        }
        click.echo(json.dumps(_facts(chosen) | found))
    else:
        _print(results)
        rows = [(engine, mode, chosen) for engine, mode in modes.items()]
        print_table("How the segments run", ("engine", "mode", "threads"), rows)
        if skipped:
            print_table("Not measured", ("engine", "reason"), [*skipped.items()])


def _progress(
    workloads: Sequence[Workload], quiet: bool
) -> AbstractContextManager[Iterable[Workload]]:
    if quiet or not sys.stderr.isatty():
        return nullcontext(workloads)
    return click.progressbar(workloads, label="measuring", file=sys.stderr)


def _facts(threads: Threads) -> dict[str, Any]:
    """Collect what a reader of the numbers must know."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads.number,
        "threads_reason": threads.reason,
        "python": platform.python_version(),
        "versions": {
            name: version(name)
            for name in ("effbert", *(entry.library for entry in ENGINES.values()))
            if find_spec(name)
        },
    }


def _print(results: Sequence[Measured]) -> None:
    on_texts = all(item.length is None for item in results)
    columns = ["rows x tokens", "engine", "p50, ms", "p95, ms", "p99, ms", "rows/s", "ratio"]
    columns += ["point", "mean layer", "exits, % of rows"] if on_texts else []
    rows = []
    for item in results:
        row = [item.workload, item.engine]
        row += [f"{value:.2f}" for value in (item.p50_ms, item.p95_ms, item.p99_ms)]
        row += [f"{item.rows_per_second:.0f}", f"{item.ratio:.2f}"]
        if on_texts:
            exits = " ".join(f"{100 * share:.0f}" for share in item.exits)
            row += [item.point, f"{item.layers:.2f}", exits]
        rows.append(row)
    first = f"{results[0].engine}, {results[0].point}"
    print_table(f"Time of a call; ratios to {first}", columns, rows)

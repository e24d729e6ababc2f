"""Draw a benchmark: one panel a batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effbert.runtime.bench.timing import Measured
from effbert.runtime.plots import new_figure, save_figure


def draw_times(results: Sequence[Measured], path: Path) -> None:
    """Draw milliseconds against tokens, or for texts the median and 95th percentile of each arm.

    A mix of lengths beside fixed ones is left out.

    Raises:
        InputError: The file cannot be written.
    """
    batches = list(dict.fromkeys(item.batch for item in results))
    figure = new_figure(1 + 3.5 * len(batches), 4)
    panels = figure.subplots(1, len(batches), squeeze=False)[0]
    for axes, batch in zip(panels, batches, strict=True):
        part = [item for item in results if item.batch == batch]
        (_bars if part[0].length is None else _lines)(axes, part)
        axes.set_title(f"{batch} rows a call" if batch > 1 else "1 row a call", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    save_figure(figure, path)


def _lines(axes: Any, results: Sequence[Measured]) -> None:
    for engine in dict.fromkeys(item.engine for item in results):
        part = sorted(
            (item for item in results if item.engine == engine and item.length),
            key=lambda item: item.length or 0,
        )
        axes.plot([r.length for r in part], [r.p50_ms for r in part], "o-", label=engine)
    axes.set_xlabel("tokens")
    axes.set_ylabel("median ms a call")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _bars(axes: Any, results: Sequence[Measured]) -> None:
    names = [f"{item.engine}\n{item.point}" for item in results]
    medians = [item.p50_ms for item in results]
    tails = [max(0.0, item.p95_ms - item.p50_ms) for item in results]
    engines = list(dict.fromkeys(item.engine for item in results))
    colors = [f"C{engines.index(item.engine)}" for item in results]
    axes.barh(names, medians, xerr=[[0.0] * len(tails), tails], color=colors, capsize=3)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("ms a call: median, to the 95th percentile")
    axes.set_xlim(left=0)

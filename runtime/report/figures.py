"""The plots of a report. They hold no text of the bundle: names stand in the tables beside them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from effbert.runtime.plots import new_figure
from effbert.runtime.report.content import Exit, Findings, OnExamples

SHOWN = 4  # operating points in one plot


class Theme(NamedTuple):
    """Colours of text, grid, and of series that colour-blind people tell apart (Okabe and Ito)."""

    ink: str
    grid: str
    series: tuple[str, ...]


LIGHT = Theme("#1b1f24", "#d5d9de", ("#0072b2", "#b14a00", "#00785a", "#a8487f", "#5a5f66"))
DARK = Theme("#e8eaed", "#3c4148", ("#56b4e9", "#f0a030", "#2fc79b", "#e39bc6", "#a0a6ad"))


class Plot(NamedTuple):
    """A plot: a name for its files, what it shows in one sentence, and what draws it."""

    name: str
    alt: str
    draw: Callable[[Theme], Any]


def plots_of(findings: Findings) -> list[Plot]:
    """Choose the plots that a bundle and its examples allow."""
    found = []
    examples = findings.examples
    if examples is not None:
        found = [*_of_examples(examples)]
    if any(segment.difference is not None for segment in findings.segments):
        worst = max(segment.difference or 0.0 for segment in findings.segments)
        alt = f"Largest difference to torch at each exit; the largest of all is {worst:.1e}."
        found.append(Plot("parity", alt, lambda theme: _parity(findings, theme)))
    found.append(Plot("cost", _cost_alt(findings), lambda theme: _cost(findings, theme)))
    return found


def _of_examples(examples: OnExamples) -> Iterator[Plot]:
    if examples.front:
        alt = (
            f"{examples.metric} against milliseconds a text, from {examples.front[0][0]:.2f} ms at "
            f"full depth to {examples.front[-1][0]:.2f} ms; operating points are numbered as in "
            "the table."
        )
        yield Plot("front", alt, lambda theme: _front(examples, theme))
    if len(examples.exits) > 1 and examples.points:
        first = examples.points[0]
        alt = (
            f"Share of texts that leave at each exit; at operating point 1, {first.shares[0]:.0%} "
            f"leave at the first exit and {first.shares[-1]:.0%} at the last."
        )
        yield Plot("exits", alt, lambda theme: _histogram(examples, theme))
    if all(each.calibration for each in examples.exits):
        alt = (
            "Share of right answers against confidence at each exit, before and after a "
            "temperature; larger marks are more texts."
        )
        yield Plot("reliability", alt, lambda theme: _reliability(examples.exits, theme))
    if examples.oracle is not None and len(examples.exits) > 1:
        alt = (
            "Share of right answers of each exit alone, beside that of full depth and of an oracle "
            f"that knows the earliest right exit, which leaves after layer "
            f"{examples.oracle.mean_layer:.2f} on average."
        )
        yield Plot("oracle", alt, lambda theme: _oracle(examples, theme))


def render(plot: Plot, theme: Theme, kind: str) -> bytes:
    """Draw a plot as "svg" or "png"; the same findings give the same bytes."""
    import matplotlib as mpl
    from matplotlib.rcsetup import cycler

    settings: Any = {
        "svg.hashsalt": "effbert",
        "font.size": 10,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.grid,
        "axes.facecolor": "none",
        "axes.prop_cycle": cycler(color=theme.series),
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.grid,
        "grid.linewidth": 0.6,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "legend.frameon": False,
        "legend.fontsize": 9,
    }
    target = io.BytesIO()
    with mpl.rc_context(settings):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        paper = "white" if kind == "png" else "none"
        plot.draw(theme).savefig(target, format=kind, dpi=160, facecolor=paper, metadata=metadata)
    return target.getvalue()


def _front(examples: OnExamples, theme: Theme) -> Any:
    figure = new_figure(7, 3.8)
    axes, scale = figure.subplots(), 100 if examples.share else 1
    times, qualities = zip(*examples.front, strict=True)
    axes.plot(times, [scale * each for each in qualities], label="one threshold for all exits")
    axes.plot(examples.full.ms, scale * examples.full.quality, "s", label="full depth")
    if examples.oracle is not None:
        axes.plot(examples.oracle.ms, scale * examples.oracle.quality, "*", markersize=11,
                  label="oracle")  # fmt: skip
    for number, point in enumerate(examples.points, 1):
        at = point.ms, scale * point.quality
        axes.plot(*at, "o", color=theme.series[3], label="operating points" if number == 1 else "")
        axes.annotate(str(number), at, (5, -12), textcoords="offset points")
    axes.set_xlabel("milliseconds a text, from the times of the segments")
    axes.set_ylabel(f"{examples.metric}, %" if examples.share else examples.metric)
    axes.set_xlim(left=0)
    _legend(axes)
    return figure


def _histogram(examples: OnExamples, theme: Theme) -> Any:
    figure = new_figure(7, 3.4)
    axes, shown = figure.subplots(), examples.points[:SHOWN]
    width = 0.8 / len(shown)
    for number, point in enumerate(shown):
        places = [
            index + (number - (len(shown) - 1) / 2) * width for index in range(len(point.shares))
        ]
        axes.bar(
            places, [100 * share for share in point.shares], width, label=f"point {number + 1}"
        )
    _label_exits(axes, [each.layer for each in examples.exits])
    axes.set_ylabel("texts that leave, %")
    _legend(axes)
    return figure


def _reliability(exits: list[Exit], theme: Theme) -> Any:
    columns = min(3, len(exits))
    lines = math.ceil(len(exits) / columns)
    figure = new_figure(7, 0.6 + 2.2 * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
    for axes, each in zip(grid, exits, strict=False):
        assert each.calibration is not None
        axes.plot([0, 1], [0, 1], color=theme.grid)
        for name, found, style in (
            ("before", each.calibration.before, "o-"),
            ("after", each.calibration.after, "s--"),
        ):
            where = [part.confidence for part in found.bins]
            right = [part.right for part in found.bins]
            rows = sum(part.rows for part in found.bins)
            sizes = [4 + 80 * part.rows / rows for part in found.bins]
            [line] = axes.plot(where, right, style[1:], linewidth=0.8, label=name)
            axes.scatter(where, right, sizes, marker=style[0], color=line.get_color())
        axes.set_title(f"layer {each.layer}", fontsize=9)
    for axes in [*grid][len(exits) :]:
        axes.set_visible(False)
    grid[0].legend()
    figure.supxlabel("confidence", fontsize=10)
    figure.supylabel("share of right answers", fontsize=10)
    return figure


def _oracle(examples: OnExamples, theme: Theme) -> Any:
    assert examples.oracle is not None
    figure = new_figure(7, 3.4)
    axes = figure.subplots()
    heights = [100 * (each.right or 0.0) for each in examples.exits]
    axes.bar(range(len(heights)), heights, 0.6, label="this exit for all texts")
    best = 100 * (examples.oracle.right or 0.0)
    axes.axhline(best, color=theme.series[1], linestyle="--", label="oracle")
    axes.axhline(heights[-1], color=theme.series[2], linestyle=":", label="full depth")
    _label_exits(axes, [each.layer for each in examples.exits])
    axes.set_ylabel("right answers, %")
    _legend(axes)
    return figure


def _parity(findings: Findings, theme: Theme) -> Any:
    figure = new_figure(7, 2.8)
    axes = figure.subplots()
    found = [max(segment.difference or 0.0, 1e-9) for segment in findings.segments]
    axes.bar(range(len(found)), found, 0.6)
    axes.set_yscale("log")
    if findings.tolerance is not None:
        axes.axhline(findings.tolerance, color=theme.series[1], linestyle="--", label="allowed")
        _legend(axes)
    _label_exits(axes, [segment.layer for segment in findings.segments])
    axes.set_ylabel("largest difference")
    return figure


def _cost_alt(findings: Findings) -> str:
    if findings.examples is None:
        total = sum(segment.flops["128"] for segment in findings.segments)
        return f"FLOPs of a row of 128 tokens in each segment; all together {total / 1e9:.2f} G."
    time = math.fsum(segment.ms or 0.0 for segment in findings.segments)
    return f"Mean milliseconds of a text in each segment; all together {time:.2f} ms."


def _cost(findings: Findings, theme: Theme) -> Any:
    del theme
    figure = new_figure(7, 2.8)
    axes = figure.subplots()
    if findings.examples is None:
        heights = [segment.flops["128"] / 1e6 for segment in findings.segments]
        axes.set_ylabel("MFLOPs at 128 tokens")
    else:
        heights = [segment.ms or 0.0 for segment in findings.segments]
        axes.set_ylabel("milliseconds a text")
    axes.bar(range(len(heights)), heights, 0.6)
    _label_exits(axes, [segment.layer for segment in findings.segments])
    return figure


def _label_exits(axes: Any, layers: list[int]) -> None:
    axes.set_xticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set_xlabel("exit after layer")
    axes.grid(axis="x", visible=False)


def _legend(axes: Any) -> None:
    """Put the legend above the plot, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)

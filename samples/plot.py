"""Draw accuracy against latency from the report.json of report.py.

python samples/plot.py report.json accuracy_latency.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

STYLE = {
    "svg.hashsalt": "effbert",  # the same ids in every run
    "figure.figsize": (7, 4),
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
}
GREY, BLUE = "0.45", "#0b6cb5"


def draw(report: dict, path: Path) -> None:
    """Draws the full model as squares, the bundle's knob values as a curve."""
    results = report["results"]
    full = [r for r in results if r["in_table"] and not r["name"].startswith("effbert")]
    points = [r for r in results if r["in_table"] and r["name"].startswith("effbert")]
    curve = sorted([*points, *(r for r in results if not r["in_table"])], key=lambda r: r["p50_ms"])
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(layout="constrained")
        axes.plot(*_xy(curve), "-", color=BLUE, linewidth=1, alpha=0.5, zorder=1)
        axes.plot(*_xy(points), "o", color=BLUE)
        axes.plot(*_xy(full), "s", color=GREY)
        for r in [*full, *points]:
            color = BLUE if r in points else GREY
            place = (r["p50_ms"], r["accuracy"])
            text = f"{r['name']}\n{r['mean_exit_layer']:.1f} layers"
            # Both kinds of full depth lie at the same height: one is labelled above, one below.
            shift, va = ((6, -6), "top") if r in points else ((6, 6), "bottom")
            axes.annotate(
                text, place, shift, textcoords="offset points", va=va, color=color, fontsize=8
            )
        axes.margins(y=0.15)
        axes.set_xlabel(f"median latency of one text, ms ({report['threads']} threads)")
        axes.set_ylabel(f"accuracy on {report['texts']} test texts, %")
        axes.set_xlim(left=0, right=1.25 * max(r["p50_ms"] for r in [*full, *points]))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _xy(results: list[dict]) -> tuple[list[float], list[float]]:
    return [r["p50_ms"] for r in results], [r["accuracy"] for r in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("image", type=Path, help="file to write, .svg or .png")
    options = parser.parse_args()
    draw(json.loads(options.report.read_text()), options.image)


if __name__ == "__main__":
    main()

"""Draw accuracy against latency and against throughput from the report.json of report.py.

python samples/plot.py report.json accuracy_latency.svg
"""

from __future__ import annotations

import argparse
import json
from itertools import groupby
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

STYLE = {
    "svg.hashsalt": "effbert",  # the same ids in every run
    "figure.figsize": (10, 4),
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
}
LOOKS = {
    "truncated texts": ("0.45", "s"),
    "exits": ("#0b6cb5", "o"),
    "exits, int8": ("#7d3fb0", "v"),
    "lengths": ("#d9730d", "^"),
    "exits and lengths": ("#2a8c4a", "D"),
}


def draw(report: dict, path: Path) -> None:
    """Draw a curve for each way to compute less; the points in the table are filled."""
    results = report["results"]
    for each in results:
        each["batched_ms"] = 1000 / each["per_second"]
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, sharey=True, layout="constrained")
        for axes, x in ((left, "p50_ms"), (right, "batched_ms")):
            draw_curves(axes, results, x)
            axes.set_xlim(left=0)
        left.set_xlabel(f"median latency of one text, ms ({report['threads']} threads)")
        right.set_xlabel("time a text at batch 32, ms")
        left.set_ylabel(f"accuracy on {report['texts']} test texts, %")
        right.legend(fontsize=8, frameon=False, loc="lower right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def draw_curves(axes: Axes, results: list[dict], x: str) -> None:
    """One line a kind, in the order of time; the full model in torch and onnxruntime as crosses."""
    by_kind = sorted(results, key=lambda each: (each["kind"], each[x]))
    for kind, group in groupby(by_kind, key=lambda each: each["kind"]):
        members = list(group)
        if kind not in LOOKS:
            for each in members:
                point, name = (each[x], each["accuracy"]), each["name"].split(",")[0]
                axes.plot(*point, "x", color="black")
                axes.annotate(name, point, (0, 6), textcoords="offset points", fontsize=8)
            continue
        color, marker = LOOKS[kind]
        xs, ys = ([each[name] for each in members] for name in (x, "accuracy"))
        named = [index for index, each in enumerate(members) if each["in_table"]]
        axes.plot(xs, ys, "-", color=color, linewidth=1, alpha=0.5)
        axes.plot(xs, ys, marker, color=color, markersize=4, fillstyle="none")
        axes.plot(xs, ys, marker, color=color, markersize=6, markevery=named, label=kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("image", type=Path, help="file to write, .svg or .png")
    options = parser.parse_args()
    draw(json.loads(options.report.read_text()), options.image)


if __name__ == "__main__":
    main()

"""Draw the genes of a search: accuracy against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from effbert.runtime.plots import new_figure, save_figure
from effbert.runtime.points.evolution import Evaluated, pareto_front

NAMES = {"latency": "median latency", "flops": "FLOPs"}


def draw_front(evaluated: Sequence[Evaluated], cost: str, data: str, path: Path) -> None:
    """Draw every gene as a dot and the front as a line, and write the file.

    Raises:
        InputError: The file cannot be written.
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    front = pareto_front(evaluated)
    for items, style, size, color, label in (
        (evaluated, "o", 3, "0.7", f"{len(evaluated)} evaluated"),
        (front, "o-", 5, "#0b6cb5", f"front of {len(front)}"),
    ):
        costs = [item.cost for item in items]
        axes.plot(
            costs,
            [100 * item.quality for item in items],
            style,
            markersize=size,
            color=color,
            label=label,
        )
    axes.set_xlabel(f"{NAMES[cost]}, share of the full model's")
    axes.set_ylabel(f"accuracy on {data}, %")
    axes.set_xlim(left=0)
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    save_figure(figure, path)

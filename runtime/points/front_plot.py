"""Draw a front: quality against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from effbert.runtime.plots import new_figure, save_figure
from effbert.runtime.points.evolution import pareto_front

NAMES = {"latency": "time of a text alone", "throughput": "time of a text", "flops": "FLOPs"}


def draw_front(
    outcomes: Sequence[tuple[float, float]], full_cost: float, cost: str, quality: str, path: Path
) -> None:
    """Draw every outcome as a dot and the front as a line, and write the file.

    Args:
        outcomes: Quality and cost.
        full_cost: That of the full model.
        cost: What costs are.
        quality: What qualities are.
        path: Of the file.

    Raises:
        InputError: The file cannot be written.
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    front = [outcomes[index] for index in pareto_front(outcomes)]
    for items, style, size, color, label in (
        (outcomes, "o", 3, "0.7", f"{len(outcomes)} tried"),
        (front, "o-", 5, "#0b6cb5", f"front of {len(front)}"),
    ):
        shares = [spent / full_cost for _, spent in items]
        values = [value for value, _ in items]
        axes.plot(shares, values, style, markersize=size, color=color, label=label)
    axes.set_xlabel(f"{NAMES[cost]}, share of the full model's")
    axes.set_ylabel(quality)
    axes.set_xlim(left=0)
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    save_figure(figure, path)

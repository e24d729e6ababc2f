"""Draw the genes of a search: accuracy against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from effbert.runtime.errors import InputError, MissingDependencyError
from effbert.runtime.search.evolution import Evaluated, pareto_front

NAMES = {"latency": "median latency", "flops": "FLOPs"}


def check_plot(path: Path) -> None:
    """Finds out before a long search whether its plot can be drawn.

    Raises:
        InputError: The folder is missing, or matplotlib does not write such files.
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise MissingDependencyError(
            'Plots need matplotlib; install it with: pip install "effbert[demo]".'
        ) from error
    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in kinds:
        raise InputError(f"--plot {path}: expected a name that ends in .svg, .png or .pdf.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--plot {path}: there is no folder {path.parent}.")


def draw(evaluated: Sequence[Evaluated], cost: str, data: str, path: Path) -> None:
    """Draws every gene as a dot and the front as a line, and writes the file.

    Raises:
        InputError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
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
    try:
        figure.savefig(path)
    except OSError as error:
        raise InputError(f"--plot {path} cannot be written: {error.strerror}.") from error

"""Figures for people: is there a library to draw with, and where does the file go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from effbert.runtime.errors import InputError, MissingDependencyError


def check_plot(path: Path) -> None:
    """Find out before a long run whether its plot can be drawn.

    Raises:
        InputError: The folder is missing, or matplotlib does not write such files.
        MissingDependencyError: Matplotlib is not installed.
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


def new_figure(width: float, height: float) -> Any:
    """Start a figure of so many inches, drawn without a window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure to a file.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        figure.savefig(path)
    except OSError as error:
        raise InputError(f"--plot {path} cannot be written: {error.strerror}.") from error

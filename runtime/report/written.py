"""The files of a report: written as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from effbert.runtime.errors import InputError, ResourceError
from effbert.runtime.report.content import Findings
from effbert.runtime.report.figures import LIGHT, plots_of, render


def check_target(path: Path) -> None:
    """Find out before a long run whether the page can be written.

    Raises:
        InputError: The name is not that of a page, or there is no such folder.
    """
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise InputError(f"--output {path}: expected a name that ends in .html.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--output {path}: there is no folder {path.parent}.")


def write_text(path: Path, text: str) -> None:
    """Write a file, replacing one that is there.

    Raises:
        ResourceError: It cannot be written; one that was there is untouched.
    """
    _write(path, text.encode("utf-8"))


def write_figures(folder: Path, findings: Findings) -> list[Path]:
    """Write every plot as SVG and as PNG.

    Args:
        folder: Where to; made if needed.
        findings: What they show.

    Raises:
        ResourceError: The folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder} cannot be made: {error.strerror}.") from error
    written = []
    for plot in plots_of(findings):
        for kind in ("svg", "png"):
            path = folder / f"{plot.name}.{kind}"
            _write(path, render(plot, LIGHT, kind))
            written.append(path)
    return written


def _write(path: Path, data: bytes) -> None:
    passing = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        passing.write_bytes(data)
        passing.replace(path)
    except OSError as error:
        passing.unlink(missing_ok=True)
        raise ResourceError(f"{path} cannot be written: {error.strerror}.") from error

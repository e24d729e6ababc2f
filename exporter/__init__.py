"""Checkpoint in, bundle out."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effbert.exporter.options import ExportOptions, with_options

if TYPE_CHECKING:
    from effbert.exporter.pipeline import Report

__all__ = ["ExportOptions", "export"]


@with_options
def export(
    checkpoint: str | PathLike[str],
    bundle: str | PathLike[str],
    *,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Report:
    """Export a checkpoint to a bundle.

    Args:
        checkpoint: Folder, weights file with config.json beside it, or hub id.
        bundle: The folder to make; it appears complete or not at all.
        progress: Called with a phrase before each step.
        **options: Those of the command line, see `ExportOptions`.

    Returns:
        What was exported, with the manifest and the parity measured.

    Raises:
        ExportError: The checkpoint cannot be exported; ParityError: it was, but differs from
            torch; AgreementError: the precision changes too many answers or decisions.
        InputError: An option does not fit.
        ResourceError: The disk is full or refuses to be written.
    """
    from effbert.exporter.pipeline import run_export

    asked = ExportOptions(**options)
    return run_export(str(checkpoint), Path(bundle), asked, progress or (lambda phrase: None))

"""`--exits auto`: export all exits, answer examples at each of them, and keep those that pay."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from effbert.exporter.options import ExportOptions, path_of
from effbert.runtime import Placement, choose_exits
from effbert.runtime.errors import InputError

Export = Callable[[Path, ExportOptions], tuple[int, ...]]


def with_chosen_exits(
    options: ExportOptions, export: Export, say: Callable[[str], None]
) -> tuple[ExportOptions, Placement]:
    """Choose the exits by trying the model with all of them, in a folder that goes again.

    Args:
        options: Of the export; its `exits` are `auto`.
        export: Exports the checkpoint into a folder with options, and tells the layers with exits.
        say: Hears what happens next.

    Returns:
        The options with the layers that were chosen, and what was compared.

    Raises:
        InputError: The exits cannot be chosen one by one, or the examples do not fit.
    """
    data = path_of(options.data)
    assert data is not None
    if not data.exists():
        raise InputError(f"--data {data}: there is no such file.")
    trial = replace(options, exits="all", data=None, verify=False, force=False)
    with tempfile.TemporaryDirectory(prefix="effbert-") as folder:
        every, last = Path(folder) / "every", Path(folder) / "last"
        deepest = export(every, trial)[-1]
        export(last, replace(trial, exits=[deepest], knobs=None, fit_temperature=None))
        say("choosing exits")
        placement = choose_exits(every, last, data, options.max_loss)
    return replace(options, exits=placement.layers, data=None), placement

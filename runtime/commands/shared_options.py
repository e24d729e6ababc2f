"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from effbert.runtime.console.parameters import Command, grouped_option
from effbert.runtime.engines.row_independence import spell_rows
from effbert.runtime.engines.table import ENGINES

CHOICES = ", ".join(f"{name} (rows {spell_rows(name)})" for name in ENGINES)


def _option(*names: str, **settings: Any) -> Callable[[Command], Command]:
    """Declare an option that stands under "Running" where `--help` has headings."""
    return grouped_option("Running", *names, **settings)


def engine_option(command: Command) -> Command:
    """Add `--engine`, by default the first that is installed."""
    return _option(
        "--engine",
        type=click.Choice([*ENGINES]),
        help=f"What runs the segments: {CHOICES}. The default is the first that is installed and "
        "needs neither plans nor a GPU.",
    )(command)


def device_options(command: Command) -> Command:
    """Add `--plans`, `--device` and `--strict`, for engines on a GPU.

    The command passes them on to `Session`, which has arguments of the same names.
    """
    options = (
        _option(
            "--plans",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Where effbert compile wrote the plans; left out: the user's cache.",
        ),
        _option("--device", metavar="NAME", help="Where to compute, such as cuda:1."),
        _option(
            "--strict",
            is_flag=True,
            help="Refuse what would only be warned of: rows that nobody measured, a fallback.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def fallback_option(command: Command) -> Command:
    """Add `--fallback`, the engine that stands in."""
    return _option(
        "--fallback",
        type=click.Choice([*ENGINES]),
        help="What runs the segments, with a warning, if the engine cannot.",
    )(command)


def revision_option(command: Command) -> Command:
    """Add `--revision`, of a bundle on the hub."""
    return click.option(
        "--revision",
        metavar="NAME",
        help="Branch, tag or commit of a bundle on the hub; main if left out.",
    )(command)


def threads_option(command: Command) -> Command:
    """Add `--threads`."""
    return _option(
        "--threads",
        type=click.IntRange(min=1),
        help="Threads that compute; by default the physical cores, or what this process may use.",
    )(command)


def json_option(what: str = "object") -> Callable[[Command], Command]:
    """Add `--json`, which prints one JSON `what` instead of tables."""
    return _option("--json", "as_json", is_flag=True, help=f"Print one JSON {what}.")

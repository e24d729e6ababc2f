"""The options of every command that runs segments: which engine, how many threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from effbert.runtime.engines.row_independence import spell_rows
from effbert.runtime.engines.table import ENGINES

Command = TypeVar("Command", bound=Callable[..., Any])
CHOICES = ", ".join(f"{name} (rows {spell_rows(name)})" for name in ENGINES)


def engine_options(command: Command) -> Command:
    """Adds `--engine` and `--threads`."""
    engine = click.option(
        "--engine",
        default="onnxruntime",
        show_default=True,
        help=f"What runs the segments: {CHOICES}.",
    )
    threads = click.option(
        "--threads", type=int, help="Threads that compute; the default is the engine's."
    )
    return engine(threads(command))

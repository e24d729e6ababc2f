"""The commands that run on the device: inspect, validate, run, search and bench."""

from __future__ import annotations

from typing import Any

import click

from effbert.runtime.cli_bench import bench
from effbert.runtime.cli_inspect import inspect
from effbert.runtime.cli_output import printable
from effbert.runtime.cli_run import run
from effbert.runtime.cli_search import search
from effbert.runtime.cli_validate import validate
from effbert.runtime.errors import EffbertError


class CommandError(click.ClickException):
    """One sentence on stderr and the exit code of the error: 2 the user's mistake, 1 ours."""

    def __init__(self, error: EffbertError) -> None:
        super().__init__(printable(error))
        self.exit_code = error.exit_code  # type: ignore[misc]  # click declares a class variable


class Reporting(click.Command):
    """A command or group that may raise `EffbertError`."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; an `EffbertError` becomes a sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except EffbertError as error:
            raise CommandError(error) from error


class Commands(Reporting, click.Group):
    """A group of commands."""


@click.group(cls=Commands)
def device() -> None:
    """Efficient BERTs: look into bundles, check, run, search and measure them."""


device.add_command(inspect)
device.add_command(validate)
device.add_command(run)
device.add_command(search)
device.add_command(bench)

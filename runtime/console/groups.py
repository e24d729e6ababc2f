"""Commands that report errors in one sentence, and a group that imports them when named."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from effbert.runtime.console.tables import printable
from effbert.runtime.errors import EffbertError, EffbertWarning


class CommandError(click.ClickException):
    """One sentence on stderr and the exit code of the error: 2 the user's mistake, 1 ours."""

    def __init__(self, error: EffbertError) -> None:
        super().__init__(printable(error))
        self.exit_code = error.exit_code  # type: ignore[misc]  # click declares a class variable


class Reporting(click.Command):
    """A command or group that may raise `EffbertError`, and warn."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an `EffbertError` becomes a sentence and an exit code.

        Warnings of ours are sentences on stderr, without the line of the source that they have in
        a program.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=EffbertWarning)
            usual = warnings.showwarning

            def show(message: Warning | str, *others: Any, **more: Any) -> None:
                if isinstance(message, EffbertWarning):
                    click.echo(f"Warning: {printable(message)}", err=True)
                else:
                    usual(message, *others, **more)

            warnings.showwarning = show
            try:
                return super().invoke(ctx)
            except EffbertError as error:
                raise CommandError(error) from error


class GroupedCommand(Reporting):
    """A command whose `--help` shows options under the headings of their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a group, in the order in which the groups appear."""
        sections: dict[str, list[tuple[str, str]]] = {}
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        for option in sorted(options, key=lambda each: not hasattr(each, "group")):
            record = option.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(option, "group", "Other"), []).append(record)
        for group, records in sections.items():
            with formatter.section(group):
                formatter.write_dl(records)


class LazyCommand(NamedTuple):
    """Where a command is (`module:name`), and its line in the help of the group."""

    target: str
    summary: str


class LazyGroup(Reporting, click.Group):
    """A group whose commands are imported when they are used, not for the group's own help."""

    def __init__(
        self,
        name: str,
        lazy: Mapping[str, LazyCommand],
        moved: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        self._lazy, self._moved = lazy, moved or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command.

        Raises:
            UsageError: It has become another one.
        """
        if name in self._moved:
            raise click.UsageError(f"{name} is now: {self._moved[name]}.")
        if name not in self._lazy:
            return None
        module, _, attribute = self._lazy[name].target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self._lazy.items()])

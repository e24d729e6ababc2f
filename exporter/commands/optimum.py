"""`optimum-cli export effbert`: the export command as a plugin of optimum.

optimum parses with argparse, effbert with click. The arguments are read off the click command and
what the user wrote is handed back to it word by word, so the two cannot drift apart.
"""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

import click
from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

from effbert.exporter.commands.export import export_command


class ExportEffbert(BaseOptimumCLICommand):
    """`optimum-cli export effbert CHECKPOINT BUNDLE [OPTIONS]`."""

    COMMAND = CommandInfo(name="effbert", help="Export an efficient BERT as a segmented bundle.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare every parameter of the click command on optimum's parser."""
        context = click.Context(export_command)
        parser.set_defaults(options=[], positionals=[])
        for parameter in export_command.params:
            _declare(parser, parameter, context)

    @staticmethod
    def command_line(arguments: Namespace) -> list[str]:
        """Give the words that click would have been given."""
        return [*arguments.options, "--", *arguments.positionals]

    def run(self) -> None:
        """Run the click command; exits with its exit code."""
        export_command.main(self.command_line(self.args), prog_name="optimum-cli export effbert")


REGISTER_COMMANDS = [(ExportEffbert, ExportCommand)]


class _KeepOption(Action):
    """Append the option and its value as they would stand on click's command line."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        words = [option_string] if self.nargs == 0 else [f"{option_string}={values}"]
        namespace.options = [*namespace.options, *words]


class _KeepPositional(Action):
    """Append the value."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        namespace.positionals = [*namespace.positionals, values]


def _declare(parser: ArgumentParser, parameter: click.Parameter, context: click.Context) -> None:
    if isinstance(parameter, click.Argument):
        parser.add_argument(parameter.name, action=_KeepPositional, metavar=parameter.name.upper())
        return
    assert isinstance(parameter, click.Option)
    record = parameter.get_help_record(context)
    names = [*parameter.opts, *parameter.secondary_opts]
    parser.add_argument(
        *names,
        action=_KeepOption,
        nargs=0 if parameter.is_flag else None,
        help=record[1].replace("%", "%%") if record else SUPPRESS,
    )

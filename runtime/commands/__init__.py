"""The command `effbert`. A new command is one file and one line in the table below."""

from __future__ import annotations

from collections.abc import Sequence

import click

from effbert.runtime.console.groups import LazyCommand, LazyGroup

COMMANDS = {
    # These need the `export` extra, and say so where it is missing.
    "export": LazyCommand(
        "effbert.exporter.commands.export:export_command", "Export a checkpoint to a bundle."
    ),
    "formats": LazyCommand(
        "effbert.exporter.commands.formats:formats_command",
        "List checkpoint formats and exit policies.",
    ),
    "inspect": LazyCommand(
        "effbert.runtime.commands.inspect:inspect", "Show what is in a bundle and what it costs."
    ),
    "validate": LazyCommand(
        "effbert.runtime.commands.validate:validate", "Check a bundle and its known answers."
    ),
    "run": LazyCommand("effbert.runtime.commands.run:run", "Answer texts."),
    "tune": LazyCommand(
        "effbert.runtime.commands.tune:tune", "Choose operating points on examples."
    ),
    "report": LazyCommand(
        "effbert.runtime.commands.report:report", "Write a page about a bundle and its exits."
    ),
    "compile": LazyCommand(
        "effbert.runtime.commands.compile:compile", "Build plans of a bundle for NVIDIA GPUs."
    ),
    "push": LazyCommand(
        "effbert.runtime.commands.push:push", "Upload a bundle to the Hugging Face hub."
    ),
    "bench": LazyCommand(
        "effbert.runtime.commands.bench:bench", "Measure every installed engine on this machine."
    ),
}
MOVED = {"search": "effbert tune BUNDLE --data FILE --front"}
EXAMPLES = """
\b
Examples:
  effbert-export ./my-deebert ./bundle
  effbert run ./bundle --knob threshold=0.3 "An easy sentence."
  effbert bench ./bundle
"""

effbert = LazyGroup(
    "effbert",
    COMMANDS,
    MOVED,
    help="Efficient BERTs: export checkpoints to bundles; inspect, validate, run and measure them.",
    epilog=EXAMPLES,
)
effbert = click.version_option(package_name="effbert", prog_name="effbert")(effbert)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `effbert`; the arguments are those of the process by default."""
    effbert.main(arguments, prog_name="effbert")

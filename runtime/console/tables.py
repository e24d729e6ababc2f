"""What the commands print: tables on a terminal, tab-separated lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click


def printable(value: object) -> str:
    """Return a value as text without control characters: a bundle must not drive the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a title; a pipe gets the same cells separated by tabs.

    Columns of numbers are set flush right on a terminal. Nothing is printed when there are no rows.
    """
    if not rows:
        return
    if not sys.stdout.isatty():
        for row in ([title], columns, *rows, []):
            click.echo("\t".join(printable(cell) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    heading = Text(printable(title), style="bold")
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD)
    for k, column in enumerate(columns):
        numeric = all(str(row[k])[:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)


def amount(value: float, unit: str = "") -> str:
    """Return a number in thousands with three digits: 1234567 is "1.23 M"."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5 or prefix == "T":
            break
        value /= 1000
    return f"{value:.3g} {prefix}{unit}".rstrip()

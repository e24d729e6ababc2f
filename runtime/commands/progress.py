"""How far a long command is, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effbert.runtime.points.evolution import Evaluated

Say = Callable[[str], None]


@contextmanager
def status(quiet: bool) -> Iterator[Say]:
    """Show a line that changes; say nothing in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("Reading examples") as line:
        yield line.update


def counted(say: Say) -> Callable[[int], None]:
    """Tell how many examples are done."""
    return lambda rows: say(f"{rows:,} examples answered at every exit")


def counted_lengths(say: Say, most: int) -> Callable[[Evaluated], None]:
    """Count length configurations."""
    number = count(1)
    return lambda item: say(
        f"generation {item.generation}: {next(number):,} of at most {most:,} length configurations"
    )

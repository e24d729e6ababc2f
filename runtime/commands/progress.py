"""How many examples are done, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(quiet: bool) -> Iterator[Callable[[int], None]]:
    """Count the examples on a terminal; say nothing in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield lambda rows: None
        return
    from rich.console import Console

    with Console(stderr=True).status("Reading examples") as status:
        yield lambda rows: status.update(f"{rows:,} examples answered at every exit")

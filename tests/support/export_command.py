"""The export command as a person meets it: exit code, output, and what it left on the disk."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

from effbert.exporter.commands.export import main

# What Python itself does not show a user.
HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class Outcome(NamedTuple):
    """What a command said and returned."""

    code: int
    out: str
    err: str


def run_command(capfd: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """Run `effbert-export` in this process; only its own exit may end it, and nothing may warn."""
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
    assert not [str(each) for each in caught if not issubclass(each.category, HIDDEN)]
    code = ended.value.code
    assert isinstance(code, int)
    return Outcome(code, *capfd.readouterr())


def sentence(outcome: Outcome) -> str:
    """The one sentence of a failed command; nothing but click's usage may stand before it."""
    assert outcome.out == ""
    *usage, message = outcome.err.splitlines()
    assert not usage or usage[0].startswith("Usage: effbert-export "), outcome.err
    assert "Traceback" not in outcome.err
    assert message.startswith("Error: "), outcome.err
    assert usage or message.endswith("."), message
    assert not message.endswith(".."), message
    assert len(message) < 600, message
    return message.removeprefix("Error: ")


def contents(folder: Path) -> dict[str, bytes | str]:
    """Everything below `folder`: bytes of files, targets of links, names of folders."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = "folder"
    return found

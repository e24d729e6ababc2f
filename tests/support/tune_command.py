"""`effbert tune` as the tests call it, on texts that the tiny bundles know."""

import csv
import json
import random
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from effbert.runtime.commands import effbert
from tiny_bundle import WORDS

SMALL = "--population 5 --mutations 4 --crossovers 4".split()


def texts(count: int, least: int = 2) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS[:20], k=draw.randint(least, 20))) for _ in range(count)]


def table(path: Path, rows: list[tuple[Any, Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def tune(bundle: Path, data: Path, *arguments: str) -> Result:
    command = ["tune", str(bundle), "--data", str(data), "--threads", "1", *arguments]
    return CliRunner().invoke(effbert, command)


def summary(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)

"""The search that a Length-Adaptive Transformer's training leaves beside the weights.

`store.tsv`, or the last `store-iterN.tsv` of the folder or of its folder `search`, holds a line for
each configuration evaluated: tokens left after each layer, as a tuple, multiply-adds, score, and
more that is not read, with tabs between. The Pareto front of score against multiply-adds becomes
operating points.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from effbert.runtime.bundle.knob_values import layer_values
from effbert.runtime.bundle.manifest import Knob, OperatingPoint
from effbert.runtime.errors import CheckpointError, InputError

NAME, SEARCHED = "store.tsv", "search"
ROUND = re.compile(r"store-iter(\d{1,6})\.tsv")
MAX_BYTES = 1 << 22
MOST = 100  # operating points
LINE = re.compile(
    r"\((?P<lengths>\d{1,5}(, ?\d{1,5})*),?\)\t(?P<cost>\d{1,15})\t"
    r"(?P<score>-?\d{1,20}(\.\d{1,20})?(e-?\d{1,2})?)(\t.*)?"
)
HINT = (
    "{file} looks like the search of a Length-Adaptive Transformer; --length-adaptive exports it "
    "as one, with what the search found as operating points."
)


class Configuration(NamedTuple):
    """Tokens left after each layer, multiply-adds of a row, and the score on the authors' data."""

    lengths: tuple[int, ...]
    cost: int
    score: float


def find_store(folder: Path) -> Path | None:
    """Find the search that a checkpoint brings along: in one file, or the last of its rounds."""
    if (folder / NAME).is_file():
        return folder / NAME
    rounds = {
        int(match[1]): path
        for place in (folder, folder / SEARCHED)
        for path in place.glob("store-iter*.tsv")
        if (match := ROUND.fullmatch(path.name)) and path.is_file()
    }
    return rounds[max(rounds)] if rounds else None


def stored_points(path: Path, knob: Knob) -> tuple[tuple[OperatingPoint, ...], str]:
    """Read the front of a checkpoint's own search as operating points, and say so in a sentence.

    Args:
        path: What `find_store` found.
        knob: The knob `lengths` of its model.

    Raises:
        CheckpointError: The file is too large or a line is not what the search writes.
    """
    found = read_store(path, knob)
    points = _points(best_configurations(found), path.name)
    note = (
        f"{len(points)} of the {len(found)} length configurations in {path.name} are operating "
        f"points, {points[0].name} the cheapest; their scores are the checkpoint's own, on padded "
        "rows."
    )
    return tuple(points), note


def read_store(path: Path, knob: Knob) -> list[Configuration]:
    """Read every configuration, one value a layer as the knob takes them.

    Raises:
        CheckpointError: See `stored_points`.
    """
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_BYTES >> 20} MiB; move it elsewhere.")
    text = path.read_bytes().decode("utf-8", "replace")
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = LINE.fullmatch(line)
        if match is None:
            raise CheckpointError(
                f"{path}, line {number}: expected a tuple of lengths, multiply-adds and a score "
                "with tabs between; mend the file or move it elsewhere."
            )
        values = [int(part) for part in match["lengths"].split(",")]
        try:
            layer_values(knob, values)
        except InputError as error:
            raise CheckpointError(f"{path}, line {number}: {error}") from error
        found.append(Configuration(tuple(values), int(match["cost"]), float(match["score"])))
    if not found:
        raise CheckpointError(f"{path} is empty; move it elsewhere.")
    return found


def best_configurations(found: list[Configuration]) -> list[Configuration]:
    """Return what none beats in score at the same or a lower cost, cheapest first; 100 at most."""
    best: list[Configuration] = []
    for each in sorted(found, key=lambda each: (each.cost, -each.score)):
        if not best or each.score > best[-1].score:
            best.append(each)
    if len(best) <= MOST:
        return best
    return [best[index] for index in np.linspace(0, len(best) - 1, MOST).round().astype(int)]


def _points(configurations: list[Configuration], file: str) -> list[OperatingPoint]:
    return [
        OperatingPoint(
            name=f"store-{index}",
            knobs={"lengths": [*each.lengths]},
            data=f"{file} of the checkpoint",
            quality={"score": each.score},
            cost={"multiply-adds": each.cost},
        )
        for index, each in enumerate(configurations, 1)
    ]

"""Choose exit thresholds on held-out texts, and store them in the bundle as operating points.

    python samples/calibrate.py BUNDLE heldout.csv --loss 0 0.5 2

For each allowed loss, in points of accuracy against full depth, the value whose answers leave
earliest becomes the operating point `loss-0`, `loss-0.5`, `loss-2`. Values that exit earlier are
tried one after the other up to the first that loses too much: a lucky one behind it is not trusted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from data import Row, read_rows
from effbert.runtime import Session
from effbert.runtime.bundle.folder import replace_manifest
from effbert.runtime.bundle.manifest import Knob, OperatingPoint, to_float
from effbert.runtime.errors import EffbertError


class Measured(NamedTuple):
    """What a knob value gives: accuracy in percent, encoder layers a text takes on average."""

    value: float
    accuracy: float
    layers: float


def measure(session: Session, rows: Sequence[Row], knob: Knob, value: float) -> Measured:
    """Answer every text with the knob at `value`."""
    answers = session([text for text, _ in rows], knobs={knob.name: value})
    right = [answer.label == label for answer, (_, label) in zip(answers, rows, strict=True)]
    layers = np.mean([answer.exit_layer for answer in answers])
    return Measured(value, 100 * float(np.mean(right)), float(layers))


def candidates(knob: Knob, labels: int, exits: int) -> list[float]:
    """Values to try: every patience, or 25 entropies up to that of an even guess."""
    if knob.dtype == "int64":
        return [float(patience) for patience in range(1, exits)]
    return [float(f"{value:.3g}") for value in np.geomspace(0.02, np.log(labels), 25)]


def choose(full: Measured, tried: Sequence[Measured], loss: float) -> Measured:
    """The earliest-exiting value before accuracy falls more than `loss` points below `full`."""
    latest_first = sorted([full, *tried], key=lambda item: -item.layers)
    good = takewhile(lambda item: item.accuracy >= full.accuracy - loss - 1e-9, latest_first)
    return list(good)[-1]


def operating_point(
    knob: Knob, data: str, full: Measured, loss: float, item: Measured
) -> OperatingPoint:
    """The manifest's record of a choice."""
    return OperatingPoint(
        name=f"loss-{loss:g}",
        knobs={knob.name: int(item.value) if knob.dtype == "int64" else item.value},
        data=data,
        quality={"accuracy": round(item.accuracy, 2), "full accuracy": round(full.accuracy, 2)},
        cost={"mean exit layer": round(item.layers, 3)},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path, help="CSV file with the columns text and label")
    parser.add_argument("--loss", type=float, nargs="+", default=[0, 0.5, 2], metavar="POINTS")
    options = parser.parse_args()

    rows = read_rows(options.data)
    session = Session(options.bundle)
    manifest = session.bundle.manifest
    if not session.knobs:
        raise SystemExit(f"{options.bundle} has no knob: nothing exits early.")
    knob = next(iter(session.knobs.values()))
    full = measure(session, rows, knob, to_float(knob.never))
    values = candidates(knob, len(manifest.labels), len(session.exits))
    tried = [measure(session, rows, knob, value) for value in values]
    chosen = {loss: choose(full, tried, loss) for loss in options.loss}
    points = [
        operating_point(knob, f"{options.data.name}, {len(rows)} texts", full, loss, item)
        for loss, item in chosen.items()
    ]
    names = {point.name for point in points}
    kept = [point for point in manifest.operating_points if point.name not in names]
    replace_manifest(
        session.bundle, msgspec.structs.replace(manifest, operating_points=[*kept, *points])
    )

    print(f"{'point':10}{knob.name:>12}{'accuracy':>10}{'mean exit layer':>17}")
    print(f"{'full':10}{'never':>12}{full.accuracy:10.1f}{full.layers:17.2f}")
    for loss, item in chosen.items():
        print(f"loss-{loss:<5g}{item.value:12g}{item.accuracy:10.1f}{item.layers:17.2f}")


if __name__ == "__main__":
    try:
        main()
    except EffbertError as error:
        raise SystemExit(str(error)) from None

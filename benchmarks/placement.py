"""Exits that `--exits auto` keeps, beside all exits and every k-th: measured, not computed.

    make demo
    python benchmarks/placement.py build/demo/checkpoint build/demo/heldout.csv build/demo/test.csv

Exits are chosen on the first file. Then every set of exits that was compared is exported and tuned
on that file, and all of them answer the texts of the second one by one, in turns; the quickest of
the rounds counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effbert.exporter import export
from effbert.runtime import Kept, Labelled, Placement, Session, read_labelled
from effbert.runtime.console.tables import print_table
from effbert.runtime.points.targets import Target
from effbert.runtime.points.tuning import Tuning, tune

ROUNDS = 5
POINT = "tuned"


@dataclass(frozen=True)
class Measured:
    """A set of exits on texts it was not chosen on: milliseconds a text, layers, share right."""

    kept: Kept
    ms: float
    p50: float
    layer: float
    right: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("examples", type=Path, help="to choose on")
    parser.add_argument("test", type=Path, help="to measure on")
    parser.add_argument("--max-loss", type=float, default=0.5)
    parser.add_argument("--threads", type=int, help="that compute a segment")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        placement, bundles = export_all(
            options.checkpoint, options.examples, options.max_loss, Path(folder)
        )
        with ExitStack() as stack:
            sessions = {
                layers: stack.enter_context(Session(bundle, threads=options.threads))
                for layers, bundle in bundles.items()
            }
            manifest = sessions[placement.layers].bundle.manifest
            data = read_labelled(options.test, manifest.labels)
            measured = measure(placement, sessions, data)
    print_table(
        f"{len(data.texts)} texts; an exit costs {placement.exit_ms:.3f} ms; * is kept",
        ("exits", "after layers", "expected ms", "ms", "p50 ms", "mean exit layer", "right"),
        [
            (
                f"{each.kept.name}{' *' if each.kept.layers == placement.layers else ''}",
                ", ".join(map(str, each.kept.layers)),
                *(f"{value:.2f}" for value in (each.kept.ms, each.ms, each.p50, each.layer)),
                f"{100 * each.right:.1f} %",
            )
            for each in measured
        ],
    )


def export_all(
    checkpoint: Path, examples: Path, max_loss: float, folder: Path
) -> tuple[Placement, Mapping[tuple[int, ...], Path]]:
    """Export every set of exits that `--exits auto` compares, each with a tuned point."""
    report = export(
        checkpoint, folder / "auto", exits="auto", data=examples, max_loss=max_loss, verify=False
    )
    assert report.placement is not None
    bundles = {}
    for kept in report.placement.candidates:
        bundle = folder / "-".join(map(str, kept.layers))
        if kept.layers not in bundles:
            export(checkpoint, bundle, exits=kept.layers, verify=False)
            if len(kept.layers) > 1:
                tune(Tuning(bundle, examples, [Target("loss", max_loss / 100, POINT)]))
            bundles[kept.layers] = bundle
    return report.placement, bundles


def measure(
    placement: Placement, sessions: Mapping[tuple[int, ...], Session], data: Labelled
) -> Sequence[Measured]:
    """Answer the texts one by one, in turns."""
    knobs = {layers: point_of(session) for layers, session in sessions.items()}
    seconds = {layers: np.full(len(data.texts), np.inf) for layers in sessions}
    for row, text in enumerate(data.texts):
        for _ in range(ROUNDS):
            for layers, session in sessions.items():
                started = time.perf_counter()
                session([text], knobs[layers])
                taken = time.perf_counter() - started
                seconds[layers][row] = min(seconds[layers][row], taken)
    found = []
    for kept in placement.candidates:
        answers = sessions[kept.layers](data.texts, knobs[kept.layers])
        right = [
            answer.label_id == label for answer, label in zip(answers, data.labels, strict=True)
        ]
        times = 1000 * seconds[kept.layers]
        layer = float(np.mean([answer.exit_layer for answer in answers]))
        found.append(
            Measured(
                kept, float(times.mean()), float(np.median(times)), layer, float(np.mean(right))
            )
        )
    return found


def point_of(session: Session) -> dict[str, float]:
    """Knob values of the tuned point; nothing where there is one exit."""
    points = [each for each in session.bundle.manifest.operating_points if each.name == POINT]
    return dict(points[0].knobs) if points else {}  # type: ignore[arg-type]


if __name__ == "__main__":
    main()

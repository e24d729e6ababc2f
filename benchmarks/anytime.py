"""Single texts under a deadline: how many are answered in time, and how well.

    make demo
    python benchmarks/anytime.py build/demo/exits_bundle build/demo/test.csv

Every text is answered alone, in turn without a deadline, with one, and without one at an operating
point. The deadline is a share of the median time of full depth. "Plus one segment" allows the mean
time of a segment more, which is what a call may be late by when the machine slows down during one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from effbert.runtime import Session, Text, read_labelled
from effbert.runtime.bundle.manifest import to_numbers
from effbert.runtime.console.tables import print_table

TEXTS = 1000
WARM_UP = 100
SHARE = 0.5
HUNDRED = 100


class Answered(NamedTuple):
    """One text: milliseconds, whether the answer is right, its layer, whether it was stopped."""

    ms: float
    right: bool
    layer: int
    stopped: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path, help="labelled texts")
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument("--share", type=float, default=SHARE, help="of the time of full depth")
    parser.add_argument("--point", default="loss-0.5", help="an operating point of the bundle")
    parser.add_argument("--engine")
    options = parser.parse_args()
    with Session(options.bundle, options.engine) as session:
        manifest = session.bundle.manifest
        data = read_labelled(options.data, manifest.labels)
        texts = list(islice(cycle(data.texts), options.texts))
        truth = list(islice(cycle(data.labels), options.texts))
        deepest = {knob.name: to_numbers(knob.never) for knob in manifest.knobs}
        warm = [answer(session, text, 0, knobs=deepest) for text in texts[:WARM_UP]]
        deadline = options.share * float(np.median([each.ms for each in warm]))
        ways = {
            "full depth": {"knobs": deepest},
            "full depth, deadline": {"knobs": deepest, "deadline_ms": deadline},
            options.point: {"operating_point": options.point},
            f"{options.point}, deadline": {
                "operating_point": options.point, "deadline_ms": deadline,
            },
        }  # fmt: skip
        for text in texts[:WARM_UP]:
            for how in ways.values():
                answer(session, text, 0, **how)
        found: dict[str, list[Answered]] = {name: [] for name in ways}
        for text, label in zip(texts, truth, strict=True):
            for name, how in ways.items():
                found[name].append(answer(session, text, label, **how))
        segment = np.mean([each.ms for each in found["full depth"]]) / len(session.exits)
    print_table(
        f"{len(texts)} single texts, deadline {deadline:.3f} ms",
        ("way", "p50 ms", "p97 ms", "in time", "plus one segment", "accuracy", "layer", "stopped"),
        [row(name, answers, deadline, segment) for name, answers in found.items()],
    )


def answer(session: Session, text: Text, label: int, **how: object) -> Answered:
    started = time.perf_counter()
    [found] = session([text], **how)  # type: ignore[arg-type]
    ms = 1000 * (time.perf_counter() - started)
    return Answered(ms, found.label_id == label, found.exit_layer, found.deadline_hit)


def row(name: str, answers: Sequence[Answered], deadline: float, segment: float) -> tuple:
    ms, right, layers, stopped = map(np.array, zip(*answers, strict=True))
    return (
        name,
        f"{np.median(ms):.3f}",
        f"{np.quantile(ms, 0.97):.3f}",
        f"{HUNDRED * (ms <= deadline).mean():.1f} %",
        f"{HUNDRED * (ms <= deadline + segment).mean():.1f} %",
        f"{HUNDRED * right.mean():.1f} %",
        f"{layers.mean():.2f}",
        f"{HUNDRED * stopped.mean():.1f} %",
    )


if __name__ == "__main__":
    main()

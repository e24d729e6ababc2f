"""Tiny bundles with examples and operating points, as `effbert report` shows them."""

from __future__ import annotations

import json
import random
from pathlib import Path

from effbert.runtime import Session
from effbert.runtime.bundle.manifest import OperatingPoint
from effbert.runtime.points.stored_points import replace_points
from tiny_bundle import build_tiny_bundle
from tune_command import texts

COUNT = 120
POINTS = {
    "entropy": {"careful": 0.55, "fast": 0.9, "each": [0.9, 0.5, 0.0]},
    "patience": {"patient": 1},
}


def labelled_bundle(folder: Path, policy: str = "entropy") -> tuple[Path, Path]:
    """A bundle with points, and a file of texts with the labels of full depth, one in ten wrong."""
    bundle, data = folder / policy, folder / f"{policy}.jsonl"
    build_tiny_bundle(bundle, policy=policy)
    draw = random.Random(0)
    with Session(bundle, threads=1) as session:
        answers = session(texts(COUNT))
        [knob] = session.knobs
    rows = [
        {"text": text, "label": (answer.label_id + (draw.random() < 0.1)) % 3}
        for text, answer in zip(texts(COUNT), answers, strict=True)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    points = [
        OperatingPoint(
            name=name,
            knobs={knob: value},
            data="examples",
            quality={"accuracy": 90.0},
            cost={"ms": 1.0},
        )
        for name, value in POINTS[policy].items()
    ]
    replace_points(bundle, points, lambda name: False)
    return bundle, data

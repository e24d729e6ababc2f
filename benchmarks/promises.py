"""Whether tuned points keep what they promise on examples they were not chosen on.

    make demo
    python benchmarks/promises.py build/demo/exits_bundle build/demo/heldout.csv build/demo/test.csv

The examples of all files are answered once at every exit. Then they are parted into two halves at
random, again and again; points are chosen on one half and looked at on the other. For a guarantee
the risk on the other half stands for the expected one.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from effbert.runtime import Session
from effbert.runtime.console.tables import print_table
from effbert.runtime.points.choices import choose_knobs, choose_safe
from effbert.runtime.points.examples import Columns, Examples
from effbert.runtime.points.metrics import row_losses
from effbert.runtime.points.sweep import exits_taken, thresholds_to_try
from effbert.runtime.points.targets import Target
from effbert.runtime.points.variant_facts import VariantFacts, measure_variants
from effbert.runtime.texts.rows_of_files import Row, read_rows

LOSSES = (0.0, 0.5, 2.0)
HALVES = 20
SPLITS = 500
RISK, CONFIDENCE = 0.01, 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path, nargs="+", help="labelled examples")
    parser.add_argument("--engine", help="what runs the segments")
    parser.add_argument("--risk", type=float, default=RISK)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = joined(options.data, Path(folder) / "all.jsonl")
        with Session(options.bundle, options.engine) as session:
            examples = Examples(data, session.bundle.manifest)
            [facts, *_], metric = measure_variants(
                session, data, examples, Columns(), None, lambda rows: None
            )
    count = len(facts.found.tokens)
    print_table(
        f"{count} examples, {HALVES} random halves; losses in points of {metric.name}",
        ("target", "lost where chosen", "lost elsewhere", "kept", "mean layer", "full"),
        list(promised(facts)),
    )
    print_table(
        f"{SPLITS} random halves, risk {options.risk:g}, confidence {CONFIDENCE:g}",
        ("choice", "loss elsewhere", "above the risk", "allowed", "mean layer"),
        list(guaranteed(facts, options.risk)),
    )


def joined(files: Sequence[Path], path: Path) -> Path:
    """Write the rows of all files into one."""
    rows = [row.values for file in files for row in read_rows(file) if isinstance(row, Row)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def halves(count: int, times: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Part indices into two halves at random."""
    random = np.random.default_rng(0)
    for _ in range(times):
        order = random.permutation(count)
        yield order[: count // 2], order[count // 2 :]


def promised(facts: VariantFacts) -> Iterator[tuple[object, ...]]:
    """What a loss target loses where it was chosen, and on the other half.

    A point is kept if the loss on the other half is within two standard errors of the target.
    """
    layers = np.array([segment.layer for segment in facts.manifest.segments])
    count = len(facts.rows.indices)
    for loss in LOSSES:
        found = []
        for one, other in halves(count, HALVES):
            target = Target("loss", loss / 100, "loss")
            choice = choose_knobs([facts.of_rows(one)], target)
            assert choice is not None
            there = facts.of_rows(other)
            exits = there.exits_at(choice.threshold)
            lost = there.rows.full()[0] - there.rows.quality(exits, other)
            chosen_on = facts.of_rows(one).rows.full()[0] - choice.quality
            changed = np.mean(~facts.found.facts["same"][exits, other])
            error = math.sqrt(max(changed, 1 / len(other)) / len(other))
            found.append((100 * chosen_on, 100 * lost, lost <= loss / 100 + 2 * error,
                          layers[exits].mean()))  # fmt: skip
        chosen_on, lost, kept, layer = np.mean(found, axis=0)
        yield (
            f"loss-{loss:g}",
            f"{chosen_on:.2f}",
            f"{lost:.2f}",
            f"{100 * kept:.0f} %",
            f"{layer:.2f}",
            int(layers[-1]),
        )


def guaranteed(facts: VariantFacts, risk: float) -> Iterator[tuple[object, ...]]:
    """How often the guarantee is broken, beside the choice that only looks at the mean loss."""
    assert facts.knob is not None
    losses = row_losses(facts.found.facts, labelled=True)
    signals = facts.rows.signals
    layers = np.array([segment.layer for segment in facts.manifest.segments])
    ways: dict[str, Callable[[np.ndarray], float | np.ndarray]] = {
        "guaranteed": lambda rows: safe(facts, rows, risk),
        "mean loss below the risk": lambda rows: hopeful(facts, losses, rows, risk),
    }
    for name, choose in ways.items():
        found = []
        for one, other in halves(losses.shape[1], SPLITS):
            exits = exits_taken(signals.of_rows(other), choose(one))
            found.append((losses[exits, other].mean(), layers[exits].mean()))
        lost, layer = np.array(found).T
        broken = (lost > risk).mean()
        yield (
            name,
            f"{100 * lost.mean():.2f} %",
            f"{100 * broken:.1f} %",
            f"{100 * (1 - CONFIDENCE):.0f} %",
            f"{layer.mean():.2f}",
        )


def safe(facts: VariantFacts, rows: np.ndarray, risk: float) -> float | np.ndarray:
    """The earliest threshold that is guaranteed on these rows."""
    choice = choose_safe(facts.of_rows(rows), True, risk, CONFIDENCE)
    return -np.inf if choice is None else choice.threshold


def hopeful(facts: VariantFacts, losses: np.ndarray, rows: np.ndarray, risk: float) -> float:
    """The last threshold, from late to early, whose mean loss on these rows is below the risk."""
    assert facts.knob is not None
    signals, last = facts.rows.signals.of_rows(rows), -np.inf
    for threshold in thresholds_to_try(signals, facts.knob):
        exits = exits_taken(signals, float(threshold))
        if losses[exits, rows].mean() > risk:
            break
        last = float(threshold)
    return last


if __name__ == "__main__":
    main()

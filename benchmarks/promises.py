"""Whether tuned points keep what they promise on examples they were not chosen on.

    make promises

or, on folders with heldout.csv, test.csv and bundles (as build/demo is):

    python benchmarks/promises.py build/promises/questions build/promises/tweets

The examples of both files are answered once at every exit. Then they are parted into two halves at
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
from effbert.runtime.points.measuring import measure_variants
from effbert.runtime.points.metrics import row_losses
from effbert.runtime.points.sweep import exits_taken, thresholds_to_try
from effbert.runtime.points.targets import Target
from effbert.runtime.points.variant_facts import VariantFacts
from effbert.runtime.texts.rows_of_files import Row, read_rows

LOSSES = (0.0, 0.5, 2.0)
HALVES = 20
SPLITS = 500
RISK, CONFIDENCE = 0.01, 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folders", type=Path, nargs="+", help="of bundles and examples")
    parser.add_argument("--engines", default="onnxruntime,openvino", help="what runs the segments")
    parser.add_argument("--risk", type=float, default=RISK)
    options = parser.parse_args()
    kept, broken = [], []
    for folder in options.folders:
        for bundle in sorted(folder.glob("*_bundle")):
            for engine in options.engines.split(","):
                facts = measured(folder, bundle, engine)
                name = (folder.name, bundle.name.removesuffix("_bundle"), engine)
                kept += [(*name, *row) for row in promised(facts)]
                broken += [(*name, *row) for row in guaranteed(facts, options.risk)]
    first = ("data", "bundle", "engine")
    print_table(
        f"{HALVES} random halves; losses in points of accuracy",
        (*first, "target", "lost where chosen", "lost elsewhere", "kept", "mean layer", "full"),
        kept,
    )
    print_table(
        f"{SPLITS} random halves, risk {options.risk:g}, confidence {CONFIDENCE:g}",
        (*first, "choice", "loss elsewhere", "above the risk", "allowed", "mean layer"),
        broken,
    )


def measured(folder: Path, bundle: Path, engine: str) -> VariantFacts:
    """The facts of a bundle on all examples of its folder."""
    with tempfile.TemporaryDirectory() as passing:
        files = [folder / "heldout.csv", folder / "test.csv"]
        data = joined(files, Path(passing) / "all.jsonl")
        with Session(bundle, engine) as session:
            examples = Examples(data, session.bundle.manifest)
            [facts, *_], _ = measure_variants(
                *(session, data, examples, Columns(), None, lambda rows: None), cost="flops"
            )
    return facts


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
    count = len(facts.rows.indices)
    for loss in LOSSES:
        found = []
        for one, other in halves(count, HALVES):
            here, there = facts.of_rows(one), facts.of_rows(other)
            choice = choose_knobs([here], Target("loss", loss / 100, "loss"))
            assert choice is not None
            exits = there.exits_at(choice.threshold)
            lost = there.rows.full()[0] - there.rows.quality(exits, other)
            error = standard_error(facts, exits, other)
            chosen_on = here.rows.full()[0] - choice.quality
            found.append((100 * chosen_on, 100 * lost, lost <= loss / 100 + 2 * error,
                          there.layers_at(exits).mean()))  # fmt: skip
        chosen_on, lost, kept, layer = np.mean(found, axis=0)
        yield (
            f"loss-{loss:g}",
            f"{chosen_on:.2f}",
            f"{lost:.2f}",
            f"{100 * kept:.0f} %",
            f"{layer:.2f}",
            facts.manifest.segments[-1].layer,
        )


def standard_error(facts: VariantFacts, exits: np.ndarray, rows: np.ndarray) -> float:
    """Of the loss on some rows: that of a count of rows that full depth answers otherwise right."""
    right = facts.found.facts["predicted"] == facts.found.facts["truth"]
    changed = np.count_nonzero(right[exits, rows] != right[-1, rows])
    return math.sqrt(max(changed, 1)) / len(rows)


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

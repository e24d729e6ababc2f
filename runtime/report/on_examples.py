"""What examples show about the exits of a bundle: one pass, and everything that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from effbert.runtime.bundle.manifest import Manifest, to_numbers
from effbert.runtime.bundle.variants import split_variants
from effbert.runtime.errors import InputError
from effbert.runtime.points.diagnostics import (
    agreement,
    difficulty_inversion_score,
    group_rows,
    length_groups,
    oracle_exits,
    overthinking,
)
from effbert.runtime.points.examples import Columns, Examples
from effbert.runtime.points.measuring import measure_largest
from effbert.runtime.points.metrics import right_answers
from effbert.runtime.points.reliability import Calibration, calibrate
from effbert.runtime.points.sweep import thresholds_to_try, turned_thresholds
from effbert.runtime.points.targets import spread_indices
from effbert.runtime.points.variant_facts import VariantFacts
from effbert.runtime.report.content import Exit, OnExamples, Way
from effbert.runtime.session import Session

FRONT = 100  # thresholds on the curve
LINES = 200  # of examples that never leave
CLASSES = 64  # that are told apart


def look_at_examples(
    session: Session,
    data: Path,
    columns: Columns,
    skip_bad: bool = False,
    metric: str | None = None,
    tell: Callable[[int], None] = lambda rows: None,
) -> tuple[OnExamples, list[float]]:
    """Answer examples at every exit, or read what `effbert tune` has kept of them.

    Args:
        session: Of a bundle with a tokenizer; its default variant is looked at.
        data: A file that `effbert tune` reads.
        columns: Of the data.
        skip_bad: Leave out lines that cannot be read.
        metric: Name of the quality; None for the usual one of the task.
        tell: Told how many examples are done.

    Returns:
        What they show, and the mean milliseconds of an example in each segment.

    Raises:
        InputError: Bundle, data and metric do not fit each other.
        RunError: The engine failed, or answers cannot be kept beside the bundle.
    """
    manifest = session.bundle.manifest
    if manifest.tokenizer is None:
        raise InputError(
            "A bundle without a tokenizer answers no texts; leave --data out, or export it again "
            "with: effbert-export CHECKPOINT BUNDLE --tokenizer DIR."
        )
    examples = Examples(data, manifest, columns, skip_bad)
    variant = next(split_variants(manifest))
    facts, measured = measure_largest(session, data, examples, columns, metric, tell)
    right = right_answers(facts.found.facts, examples.labelled)
    right_is = _right_is(facts, examples.labelled)
    graded = right if right_is else None
    depth, rows = right.shape
    exits, left_out = _exits_of_points(facts, manifest)
    full = np.full(rows, depth - 1)
    ways = [full, *exits.values()]
    layers = np.array([segment.layer for segment in variant.segments])
    predicted = facts.found.facts.get("predicted")
    found = OnExamples(
        data=data.name,
        rows=rows,
        skipped=len(examples.skipped),
        labelled=examples.labelled,
        metric=measured.name,
        share=measured.share,
        right_is=right_is,
        full=_way("full depth", facts, full, graded),
        oracle=_way("oracle", facts, oracle_exits(right), graded) if right_is else None,
        points=[_way(name, facts, each, graded) for name, each in exits.items()],
        left_out=left_out,
        front=_front(facts),
        exits=_exits(facts, graded, examples.labelled),
        agreement=None if predicted is None else agreement(predicted).tolist(),
        overthinking=overthinking(right) if right_is else None,
        classes=group_rows(*_classes(facts, manifest, examples.labelled), ways, layers, right),
        lengths=group_rows(*length_groups(facts.found.tokens), ways, layers, right),
    )
    costs = facts.rows.costs.mean(axis=1)
    return found, np.diff(costs, prepend=0).tolist()


def _way(name: str, facts: VariantFacts, exits: np.ndarray, right: np.ndarray | None) -> Way:
    rows, depth = np.arange(len(exits)), facts.rows.signals.exits
    layers = np.array([segment.layer for segment in facts.manifest.segments])
    stay = np.flatnonzero(exits == depth - 1)
    early = len(stay) < len(exits)
    return Way(
        name=name,
        quality=facts.rows.quality(exits, rows),
        ms=float(facts.rows.costs[exits, rows].mean()),
        mean_layer=float(layers[exits].mean()),
        shares=(np.bincount(exits, minlength=depth) / len(exits)).tolist(),
        right=None if right is None else float(right[exits, rows].mean()),
        agreement=float(facts.found.facts["same"][exits, rows].mean()),
        stay=len(stay) if early else 0,
        stay_lines=facts.found.lines[stay[:LINES]].tolist() if early else [],
    )


def _exits_of_points(
    facts: VariantFacts, manifest: Manifest
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Where rows leave at each operating point that differs from the defaults in one knob only."""
    found, left_out = {}, {}
    defaults = {each.name: to_numbers(each.default) for each in manifest.knobs}
    for point in manifest.operating_points:
        values = defaults | {name: to_numbers(value) for name, value in point.knobs.items()}
        name = facts.knob.name if facts.knob else None
        others = sorted(each for each in values if each != name and values[each] != defaults[each])
        if others:
            left_out[point.name] = f"it also sets {', '.join(others)}"
        elif facts.knob is not None and name in values:
            threshold = turned_thresholds(facts.rows.signals, facts.knob, values[name])
            found[point.name] = facts.exits_at(threshold)
    return found, left_out


def _front(facts: VariantFacts) -> list[tuple[float, float]]:
    if facts.knob is None:
        return []
    thresholds = thresholds_to_try(facts.rows.signals, facts.knob)
    some = thresholds[spread_indices(len(thresholds), FRONT)]
    tried = facts.rows.sweep([-np.inf, *some.tolist()])
    return list(zip(tried.cost.tolist(), tried.quality.tolist(), strict=True))


def _right_is(facts: VariantFacts, labelled: bool) -> str | None:
    """Say what `right_answers` counts."""
    known = facts.found.facts
    if "values" in known:
        return None
    if labelled and "predicted" in known:
        return "the answer is the label of the data"
    if labelled and "scores" in known:
        return "the share of the words of the right answer (F1)"
    return "the answer is that of full depth"


def _exits(facts: VariantFacts, right: np.ndarray | None, labelled: bool) -> list[Exit]:
    found = []
    for index, segment in enumerate(facts.manifest.segments):
        share = inversion = None
        if right is not None:
            share = float(right[index].mean())
            if facts.knob is not None and index < len(facts.rows.signals.raw):
                inversion = difficulty_inversion_score(facts.rows.signals.raw[index], right[index])
        found.append(Exit(segment.layer, share, inversion, _calibration(facts, index, labelled)))
    return found


def _calibration(facts: VariantFacts, index: int, labelled: bool) -> Calibration | None:
    known = facts.found.facts
    if not labelled or "logits" not in known:
        return None
    return calibrate(known["logits"][index], known["truth"])


def _classes(
    facts: VariantFacts, manifest: Manifest, labelled: bool
) -> tuple[Sequence[str], np.ndarray]:
    """Names of the labels and the right one of each row; nothing where there are no such labels."""
    found: Mapping[str, Any] = facts.found.facts
    if "predicted" not in found or len(manifest.labels) > CLASSES:
        return [], np.zeros(len(facts.found.tokens), dtype=int)
    names = manifest.labels or [f"LABEL_{index}" for index in range(int(found["truth"].max()) + 1)]
    return names, found["truth"]

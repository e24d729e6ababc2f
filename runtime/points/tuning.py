"""From examples to operating points: passes over the exits, choices, a check on the session."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from effbert.runtime.bundle.folder import open_bundle, require_own_manifest
from effbert.runtime.bundle.manifest import Guarantee, Number, OperatingPoint
from effbert.runtime.errors import InputError
from effbert.runtime.points.by_running import foreseen, run_thresholds
from effbert.runtime.points.choices import Choice, choose_knobs, choose_safe, pareto_choices
from effbert.runtime.points.evolution import Evaluated
from effbert.runtime.points.examples import Columns, Examples
from effbert.runtime.points.guarantee import examples_needed
from effbert.runtime.points.length_search import Evolution, search_lengths
from effbert.runtime.points.measuring import Cost, Measuring, require_choice, words_exit
from effbert.runtime.points.metrics import Metric, spell_quality
from effbert.runtime.points.rehearsal import Timed, rehearse
from effbert.runtime.points.stored_points import make_default, replace_points
from effbert.runtime.points.targets import Target
from effbert.runtime.points.variant_facts import VariantFacts, lengths_knob
from effbert.runtime.session import Session

OF_FRONT = re.compile(r"front-\d+")
GUARANTEED = "guaranteed"


@dataclass(frozen=True)
class Tuning:
    """What to tune for.

    Attributes:
        bundle: Folder of the bundle.
        data: Examples, in a file that `texts.rows_of_files.read_rows` reads.
        targets: Operating points to choose.
        guarantee: Of one more point; None for none.
        front: Whether the Pareto front becomes points as well.
        cost: What is to be low, see `Measuring`.
        metric: Name of the quality; None for the usual one of the task.
        columns: Of the data.
        skip_bad: Leave out lines that cannot be read.
        evolution: How lengths evolve, where the bundle has them.
        engine: What runs the segments; None is the first that is installed.
        threads: Threads that compute one segment.
        default: Name of the point whose knob values become the defaults; None leaves them.
    """

    bundle: Path
    data: Path
    targets: Sequence[Target] = ()
    guarantee: Guarantee | None = None
    front: bool = False
    cost: Cost = "latency"
    metric: str | None = None
    columns: Columns = field(default_factory=Columns)
    skip_bad: bool = False
    evolution: Evolution = field(default_factory=Evolution)
    engine: str | None = None
    threads: int | None = None
    default: str | None = None


@dataclass(frozen=True)
class Tuned:
    """The outcome.

    Attributes:
        points: As the manifest has them now.
        metric: The quality that was tuned for.
        full: Quality and cost of full depth.
        examples: On how many the points were chosen.
        evolved: On how many others lengths evolved.
        configurations: How many lengths were evaluated.
        skipped: Lines left out.
        unmet: Name of a point that could not be chosen -> why.
        outcomes: Quality and cost of what a front was found among.
    """

    points: list[OperatingPoint]
    metric: Metric
    full: tuple[float, float]
    examples: int
    evolved: int
    configurations: int
    skipped: list[int]
    unmet: dict[str, str]
    outcomes: list[tuple[float, float]]


class _Candidates(NamedTuple):
    """What is chosen among; how many examples and configurations it took to find the lengths."""

    variants: list[VariantFacts]
    evolved: int = 0
    configurations: int = 0


def tune(
    options: Tuning,
    tell: Callable[[int], None] = lambda rows: None,
    tell_evaluated: Callable[[Evaluated], None] = lambda item: None,
) -> Tuned:
    """Choose operating points and write them into the manifest.

    Args:
        options: What for.
        tell: Told how many examples are done.
        tell_evaluated: Told each length configuration.

    Raises:
        InputError: Bundle, data and targets do not fit each other.
        BundleError, RunError: The bundle cannot be read, run or written.
    """
    bundle = open_bundle(options.bundle)
    require_own_manifest(bundle)
    if bundle.manifest.tokenizer is None:
        raise InputError(
            "A bundle without a tokenizer cannot be tuned; export it again with: "
            "effbert-export CHECKPOINT BUNDLE --tokenizer DIR."
        )
    require_choice(bundle.manifest)
    _require_known(options, [point.name for point in bundle.manifest.operating_points])
    examples = Examples(options.data, bundle.manifest, options.columns, options.skip_bad)
    with Session(bundle, options.engine, options.threads) as session:
        measuring = Measuring(
            *(session, options.data, examples, options.columns, options.metric, options.cost),
            tell,
        )
        found = _candidates(measuring, options.evolution, tell_evaluated)
        variants = found.variants
        chosen, unmet = _choose(variants, options, measuring.metric, examples.labelled)
        outcomes: list[tuple[float, float]] = []
        if options.front:
            front, outcomes = pareto_choices(variants)
            chosen |= {f"front-{rank}": choice for rank, choice in enumerate(front, 1)}
        rows = variants[0].rows
        foretold = variants[0].layers is None
        timed = rehearse(session, examples, rows.indices, chosen, measuring.full, foretold)
    full = rows.full()
    count = len(rows.indices)
    points = [
        OperatingPoint(
            name=name,
            knobs={knob: _number(value) for knob, value in choice.knobs.items()},
            data=f"{options.data.name}, {count} texts",
            quality=_quality(measuring.metric, choice.quality, full[0]),
            cost=_cost(choice, timed[name], options.cost, full[1]),
            guarantee=options.guarantee if name == GUARANTEED else None,
            exits=choice.exits,
        )
        for name, choice in chosen.items()
    ]
    replace_points(
        options.bundle, points, lambda name: options.front and bool(OF_FRONT.fullmatch(name))
    )
    if options.default is not None:
        make_default(options.bundle, options.default)
    return Tuned(
        *(points, measuring.metric, full, count, found.evolved, found.configurations),
        *(examples.skipped, unmet, outcomes),
    )


def _candidates(
    measuring: Measuring, evolution: Evolution, tell: Callable[[Evaluated], None]
) -> _Candidates:
    """Measure what a sweep needs, and find what it cannot foresee."""
    if words_exit(measuring.manifest):
        return _Candidates(run_thresholds(measuring))
    variants = measuring.measure(measuring.ways())
    if not foreseen(measuring, variants[0]):
        return _Candidates(run_thresholds(measuring))
    if lengths_knob(measuring.manifest) is None:
        return _Candidates(variants)
    found = search_lengths(measuring, variants[0], evolution, tell)
    others = [each.of_rows(found.others) for each in (*variants, *found.variants)]
    evolved = len(variants[0].found.tokens) - len(found.others)
    return _Candidates(others, evolved, len(found.evaluated))


def _require_known(options: Tuning, stored: Sequence[str]) -> None:
    """Find out before the pass whether the point that becomes the default can exist."""
    chosen = [target.name for target in options.targets]
    chosen += [GUARANTEED] if options.guarantee else []
    if options.default is not None and options.default not in (*chosen, *stored):
        raise InputError(
            f"--as-default {options.default}: there is no such operating point, and none is asked "
            f"for; name one of {', '.join((*chosen, *stored)) or 'those that you ask for'}."
        )


def _choose(
    variants: Sequence[VariantFacts], options: Tuning, metric: Metric, labelled: bool
) -> tuple[dict[str, Choice], dict[str, str]]:
    chosen: dict[str, Choice] = {}
    unmet: dict[str, str] = {}
    for target in options.targets:
        choice = choose_knobs(variants, target)
        if choice is None:
            unmet[target.name] = _why_unmet(
                variants, target, metric, "MFLOPs" if options.cost == "flops" else "ms"
            )
        else:
            chosen[target.name] = choice
    if options.guarantee is not None:
        choice = _safe(variants[0], options.guarantee, labelled)
        if choice is None:
            needed = examples_needed(options.guarantee.risk, options.guarantee.confidence)
            unmet[GUARANTEED] = (
                f"too few examples show that the loss stays below {options.guarantee.risk:g}; "
                f"without any loss it takes {needed}, with some it takes more, and some 200 others "
                "say which thresholds to test"
            )
        else:
            chosen[GUARANTEED] = choice
    return chosen, unmet


def _safe(variant: VariantFacts, guarantee: Guarantee, labelled: bool) -> Choice | None:
    if variant.knob is None:
        raise InputError(
            "--guarantee needs exits at which whole texts leave by one threshold; this bundle has "
            "none."
        )
    return choose_safe(variant, labelled, guarantee.risk, guarantee.confidence)


def _why_unmet(variants: Sequence[VariantFacts], target: Target, metric: Metric, unit: str) -> str:
    quality, cost = variants[0].rows.full()
    if target.kind == "quality":
        return f"full depth itself has {spell_quality(metric, quality)}"
    least = min(float(each.rows.costs[0].mean()) for each in variants)
    return f"the cheapest exit takes {least:.2f} {unit} a text, full depth {cost:.2f} {unit}"


def _number(value: object) -> Number | list[Number]:
    if isinstance(value, list):
        return [_number(each) for each in value]  # type: ignore[misc]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)  # type: ignore[return-value]
    return value  # type: ignore[return-value]


def _quality(metric: Metric, value: float, full: float) -> dict[str, Number]:
    scale, digits = (100, 2) if metric.share else (1, 6)
    return {
        metric.name: round(scale * value, digits),
        f"full {metric.name}": round(scale * full, digits),
    }


def _cost(choice: Choice, timed: Timed, cost: Cost, full: float) -> dict[str, Number]:
    own = {} if cost == "latency" else {f"{cost} ratio": round(choice.cost / full, 4)}
    return {
        "mean exit layer": round(float(choice.layers.mean()), 3),
        "ms": round(timed.mean, 3),
        "p50 ms": round(timed.median, 3),
        "speedup": round(timed.full / timed.mean, 3),
        **own,
    }

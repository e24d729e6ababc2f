"""Measures sizes and lengths of a bundle on examples: passes, costs, the quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from effbert.runtime.bundle.manifest import Manifest, to_numbers
from effbert.runtime.bundle.variants import knob_combinations, split_variants
from effbert.runtime.errors import InputError
from effbert.runtime.points.costs import row_flops, tokens_kept_at
from effbert.runtime.points.examples import Columns, Examples
from effbert.runtime.points.exit_times import ExitTimes, leaving_at
from effbert.runtime.points.grading import OF_EXITS
from effbert.runtime.points.metrics import Metric, at_exits, choose_metric
from effbert.runtime.points.one_pass import Answer, Pass, digest_of, kept_at, one_pass
from effbert.runtime.points.sweep import no_signals, turn_signals
from effbert.runtime.points.targets import Rows
from effbert.runtime.points.variant_facts import VariantFacts, exit_knob, lengths_knob
from effbert.runtime.session import ROWS_OF_TEXT, Session
from effbert.runtime.texts.tokenization import TextEncoder

Cost = Literal["latency", "throughput", "flops"]
Way = tuple[Manifest, Mapping[str, Any]]  # a variant, and the knob values that select it


class Measuring:
    """Makes `VariantFacts` of a bundle on examples.

    Attributes:
        knob: The knob that exits are compared with; None if no row leaves early.
        fixed: Values of the knobs that are not chosen.
        answering: Knob values of the full model: the largest size, no token dropped.
        full: The same, and no early exit.
        metric: The quality; known after the first pass.
    """

    metric: Metric

    def __init__(
        self,
        session: Session,
        data: Path,
        examples: Examples,
        columns: Columns,
        metric: str | None = None,
        cost: Cost = "latency",
        tell: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Say what to measure.

        Args:
            session: Of the bundle.
            data: The file of the examples.
            examples: Its content.
            columns: As they were asked for.
            metric: Name of the quality, None for the usual one.
            cost: Milliseconds of a text alone, or among 32 of its length; or millions of FLOPs.
            tell: Told how many examples are done.

        Raises:
            InputError: The bundle cannot be tuned, or not for this cost.
        """
        self.session, self.examples, self.cost = session, examples, cost
        self.manifest = session.bundle.manifest
        self.knob = exit_knob(self.manifest)
        self.fixed = {
            each.name: to_numbers(each.default)
            for each in self.manifest.knobs
            if each is not self.knob
        }
        self.answering = dict(self.fixed)
        if lengths := lengths_knob(self.manifest):
            self.answering[lengths.name] = to_numbers(lengths.never)
        self.full = dict(self.answering)
        if self.knob:
            self.full[self.knob.name] = to_numbers(self.knob.never)
        _check_cost(self.manifest, cost)
        self._asked, self._tell = metric, tell
        self._times = ExitTimes(session, self.full, ROWS_OF_TEXT if cost == "throughput" else 1)
        self._about = [digest_of(data), columns.text, columns.pair, columns.label]
        self._largest: VariantFacts | None = None

    def sizes(self) -> list[Way]:
        """Give the sizes of the bundle at full length, the largest first."""
        found: list[Way] = []
        lengths = lengths_knob(self.manifest)
        for variant, selected in zip(
            split_variants(self.manifest), knob_combinations(self.manifest), strict=True
        ):
            values: Mapping[str, Any] = {
                name: to_numbers(value) for name, value in selected.items()
            }
            never = {lengths.name: to_numbers(lengths.never)} if lengths else {}
            found.append((variant, {**values, **never}))
        return found

    def ways(self) -> list[Way]:
        """Give the sizes, and the default lengths if they drop tokens."""
        found, lengths = self.sizes(), lengths_knob(self.manifest)
        if lengths is not None and lengths.default != lengths.never:
            variant, values = found[0]
            found.append((variant, {**values, lengths.name: to_numbers(lengths.default)}))
        return found

    def measure(self, ways: Sequence[Way]) -> list[VariantFacts]:
        """Make the passes, and find what the exits cost.

        Raises:
            InputError: The metric does not fit.
            RunError: The engine failed, or pieces of the pass cannot be kept.
        """
        passes = self.passes([self.fixed | dict(selected) for _, selected in ways])
        return [
            self.facts_of(variant, selected, found)
            for (variant, selected), found in zip(ways, passes, strict=True)
        ]

    def passes(
        self, knobs: Sequence[Mapping[str, Any]], answer: Answer | None = None
    ) -> list[Pass]:
        """Answer every example at some knob values; see `one_pass`."""
        folders = [self.kept_at(values) for values in knobs]
        return one_pass(
            self.session, self.examples, self.answering, knobs, folders, self._tell, answer
        )

    def choose_metric(self, found: Pass) -> None:
        """Settle what quality is, once it is known what there is to measure."""
        self.metric = choose_metric(self._asked, found.facts, self.examples.labelled)

    def facts_of(self, variant: Manifest, selected: Mapping[str, Any], found: Pass) -> VariantFacts:
        """Add costs and the quality to what a pass found; the first is that of the full model."""
        if self._largest is None:
            self.choose_metric(found)
        costs = self.costs(variant, self.full | dict(selected), found.tokens)
        rows = Rows(
            turn_signals(found.signals, self.knob) if self.knob else no_signals(*costs.shape),
            costs,
            quality_of(found, self.metric),
            np.arange(costs.shape[1]),
            self._largest.rows if self._largest else None,
        )
        asks = self._largest.last_asks if self._largest else self._last_asks()
        facts = VariantFacts(variant, selected, self.knob, found, rows, last_asks=asks)
        self._largest = self._largest or facts
        return facts

    def costs(self, variant: Manifest, knobs: Mapping[str, Any], tokens: np.ndarray) -> np.ndarray:
        """Tell what rows cost that leave at each exit, float32 [exits, rows]."""
        if self.cost == "flops":
            kept = tokens_kept_at(variant, knobs, tokens)
            return (row_flops(variant, kept, tokens) / 1e6).astype(np.float32)
        return self._times.of_rows(variant, knobs, self.knob, tokens)

    def _last_asks(self) -> bool:
        """Tell whether a head at the last exit is asked before the model's own (DeeBERT's)."""
        knob = self.knob
        if knob is None or not knob.per_exit:
            return False
        texts = [example.text for example in islice(self.examples, ROWS_OF_TEXT)]
        encoder = TextEncoder(self.session.bundle)
        inputs = encoder.padded(encoder.encode(texts))
        exits = len(self.manifest.segments)
        asked = {**self.answering, knob.name: leaving_at(exits - 1, exits, knob)}
        one, other = (self.session.run_exits(inputs, each) for each in (self.answering, asked))
        return not all(np.allclose(one[name][-1], other[name][-1], atol=1e-4) for name in one)

    def kept_at(self, *about: Any) -> Path:
        """Name the place beside the bundle where what depends on this is kept."""
        return kept_at(self.session, [*self._about, *about])


def words_exit(manifest: Manifest) -> bool:
    """Tell whether words leave one by one."""
    return any(item.name == "exit_layer" for item in manifest.segments[0].outputs)


def require_choice(manifest: Manifest) -> None:
    """Find out whether there is something to choose.

    Raises:
        InputError: The bundle has neither exits nor sizes nor lengths.
    """
    if exit_knob(manifest) or manifest.variants or lengths_knob(manifest):
        return
    raise InputError(
        "Nothing of this bundle exits early, and it has one size and no lengths, so there is "
        "nothing to tune; export a checkpoint with exits, or with --length-adaptive."
    )


def measure_variants(
    session: Session,
    data: Path,
    examples: Examples,
    columns: Columns,
    metric: str | None,
    tell: Callable[[int], None],
    cost: Cost = "latency",
) -> tuple[list[VariantFacts], Metric]:
    """Measure every size of a bundle, the largest first; see `Measuring`.

    Raises:
        InputError: There is nothing to choose, no sweep foresees where texts leave, or the metric
            does not fit.
        RunError: The engine failed, or pieces of the pass cannot be kept.
    """
    require_choice(session.bundle.manifest)
    measuring = _foretelling(session, data, examples, columns, metric, cost, tell)
    return measuring.measure(measuring.sizes()), measuring.metric


def measure_largest(
    session: Session,
    data: Path,
    examples: Examples,
    columns: Columns,
    metric: str | None,
    tell: Callable[[int], None],
) -> tuple[VariantFacts, Metric]:
    """As `measure_variants`, for the largest size alone, which may have no exits."""
    measuring = _foretelling(session, data, examples, columns, metric, "latency", tell)
    [found] = measuring.measure(measuring.sizes()[:1])
    return found, measuring.metric


def _foretelling(session: Session, *options: Any) -> Measuring:
    if words_exit(session.bundle.manifest):
        raise InputError(
            "Words of this bundle exit one by one, which no sweep foresees; effbert tune runs it "
            "at some thresholds instead."
        )
    return Measuring(session, *options)


def _check_cost(manifest: Manifest, cost: Cost) -> None:
    per_token = any(any(segment.flops[1:]) for segment in manifest.segments)
    if cost == "flops" and lengths_knob(manifest) and not per_token:
        raise InputError(
            "This bundle pads every row to one length, and its manifest counts FLOPs for that "
            "length only; leave --cost flops out."
        )


def quality_of(found: Pass, metric: Metric) -> Callable[[np.ndarray, np.ndarray], float]:
    """Make the function from exits taken and indices of rows to the quality."""
    needed = {name: found.facts[name] for name in {metric.needs, "truth"} & found.facts.keys()}

    def quality(exits: np.ndarray, rows: np.ndarray) -> float:
        every = len(rows) == len(found.tokens)  # taking all rows would copy them
        facts = (
            needed
            if every
            else {
                name: value[:, rows] if name in OF_EXITS else value[rows]
                for name, value in needed.items()
            }
        )
        return metric.of(at_exits(facts, exits))

    return quality

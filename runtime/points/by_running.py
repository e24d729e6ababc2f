"""Thresholds that a sweep cannot foresee: the session runs, at some of them.

Words that leave one by one (TOKEE) change what the layers above them see, and windows over exits
(ELBERT) compare more than one signal. Where that is so, examples are answered again at each
threshold tried: first at the ends of a wide range, then halfway between the two neighbours whose
mean exit layers are furthest apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

from effbert.runtime.bundle.manifest import Knob, Manifest, to_float, to_numbers
from effbert.runtime.chain.results import ExitAnswers
from effbert.runtime.errors import InputError
from effbert.runtime.points.choices import make_choice
from effbert.runtime.points.measuring import Measuring, quality_of
from effbert.runtime.points.one_pass import Batch, Pass
from effbert.runtime.points.rehearsal import leaving_elsewhere
from effbert.runtime.points.sweep import no_signals, thresholds_to_try
from effbert.runtime.points.targets import Rows
from effbert.runtime.points.variant_facts import VariantFacts
from effbert.runtime.session import ROWS_OF_TEXT, Session
from effbert.runtime.texts.tokenization import TextEncoder

TRIED = 24  # thresholds
NEAR = 0.02  # layers; neighbours nearer than that are not parted
RANGE = (2.0**-20, 2.0**12)
TIMED = 64  # examples that are timed
ROUNDS = 3
COMPARED = 128  # examples that say whether a sweep foresees where texts leave


def foreseen(measuring: Measuring, full: VariantFacts) -> bool:
    """Tell whether texts leave where the signals say, at no threshold and at one in the middle."""
    if full.knob is None:
        return True
    texts = [example.text for example in islice(measuring.examples, COMPARED)]
    some = full.of_rows(np.arange(len(texts)))
    tried = thresholds_to_try(some.rows.signals, full.knob)
    middle = [float(tried[len(tried) // 2])] if len(tried) else []
    return not any(
        leaving_elsewhere(measuring.session, texts, make_choice(some, threshold))
        for threshold in (-np.inf, *middle)
    )


def run_thresholds(measuring: Measuring) -> list[VariantFacts]:
    """Measure the full model, and then the same at thresholds from late to early exits.

    Args:
        measuring: Of a bundle with a threshold.

    Raises:
        InputError: Costs are to be FLOPs, which the manifest does not count for such bundles.
        RunError: The engine failed.
    """
    knob = measuring.knob
    assert knob is not None
    if measuring.cost == "flops":
        raise InputError(
            "The manifest does not count the FLOPs of exits that depend on more than a threshold; "
            "leave --cost flops out."
        )
    measured = _Runs(measuring, knob)
    never = to_numbers(knob.never)
    full = measured.at(never)
    found = {value: measured.at(value) for value in _first(measuring.manifest, knob)}
    while knob.dtype != "int64" and len(found) < TRIED:
        values = sorted(found)
        depths = [float(found[value].layers.mean()) for value in values]  # type: ignore[union-attr]
        apart = np.abs(np.diff(depths))
        widest = int(apart.argmax())
        if apart[widest] < NEAR:
            break
        middle = float(np.float32(math.sqrt(values[widest] * values[widest + 1])))
        if middle in found:
            break
        found[middle] = measured.at(middle)
    late_first = sorted(found, reverse=knob.raising == "later")
    return [full, *(found[value] for value in late_first)]


def _first(manifest: Manifest, knob: Knob) -> list[float | int]:
    least, most = to_float(knob.minimum), to_float(knob.maximum)
    if knob.dtype == "int64":
        counts = range(1, len(manifest.segments))
        return [count for count in counts if least <= count <= most and count != knob.never]
    return [float(np.clip(value, least, most)) for value in RANGE]


class _Runs:
    """Runs of a bundle at some thresholds, each timed beside the full model."""

    def __init__(self, measuring: Measuring, knob: Knob) -> None:
        self._measuring, self._knob = measuring, knob
        self._way, *_ = measuring.ways()
        together = ROWS_OF_TEXT if measuring.cost == "throughput" else 1
        encoder = TextEncoder(measuring.session.bundle)
        texts = encoder.encode([each.text for each in islice(measuring.examples, TIMED)])
        texts.sort(key=lambda text: len(text.ids))
        self._count = len(texts)
        self._timed = [
            encoder.padded(texts[start : start + together])
            for start in range(0, len(texts), together)
        ]
        self._full: VariantFacts | None = None
        self._full_seconds = 0.0

    def at(self, value: float | int) -> VariantFacts:
        """Answer all examples at a threshold."""
        manifest, selected = self._way
        measuring, knob = self._measuring, self._knob
        chosen = {**selected, knob.name: value}
        [found] = measuring.passes([measuring.fixed | chosen], as_they_leave)
        facts = self._facts(manifest, chosen, found)
        self._full = self._full or facts
        return facts

    def _facts(self, manifest: Manifest, chosen: Mapping[str, Any], found: Pass) -> VariantFacts:
        measuring, count = self._measuring, len(found.tokens)
        measuring.choose_metric(found)
        milliseconds = self._milliseconds(measuring.fixed | dict(chosen))
        rows = Rows(
            no_signals(1, count),
            np.full((1, count), milliseconds, dtype=np.float32),
            quality_of(found, measuring.metric),
            np.arange(count),
            self._full.rows if self._full else None,
        )
        layers = found.signals  # see `as_they_leave`
        return VariantFacts(manifest, chosen, None, found, rows, layers)

    def _milliseconds(self, knobs: Mapping[str, Any]) -> float:
        """Mean of the timed examples, on the scale of the first run of the full model."""
        seconds = np.zeros((ROUNDS, 2))
        for inputs in self._timed:
            self._measuring.session.run(inputs, knobs)
            for each in range(ROUNDS):
                for column, way in enumerate((knobs, self._measuring.full)):
                    started = time.perf_counter()
                    self._measuring.session.run(inputs, way)
                    seconds[each, column] += time.perf_counter() - started
        own, full = np.median(seconds, axis=0) * 1000 / self._count
        self._full_seconds = self._full_seconds or full
        return float(own * self._full_seconds / full)


def as_they_leave(session: Session, batch: Batch, knobs: Mapping[str, Any]) -> ExitAnswers:
    """Answer examples as a session does.

    Returns:
        The answers as those of one exit; in place of its signal stands the mean layer of a row's
        tokens.
    """
    result = session.run(batch.inputs, knobs)
    answers = ExitAnswers((name, value[None]) for name, value in result.outputs.items())
    layers = result.exit_layer.astype(np.float32)
    if layers.ndim == 2:
        real = np.arange(layers.shape[1]) < np.array([[len(text.ids)] for text in batch.texts])
        layers = (layers * real).sum(1) / real.sum(1)
    answers.signal = layers[None].astype(np.float32)
    return answers

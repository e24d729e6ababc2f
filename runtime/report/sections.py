"""The parts of the page: headings, sentences, tables, and the plots that go with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from effbert.runtime.bundle.manifest import OperatingPoint
from effbert.runtime.report.content import Findings, OnExamples, Way

LINES = 30  # of examples that are named in a table


@dataclass(frozen=True)
class Table:
    """A table: caption, names of its columns, and rows of cells; the first cell names the row.

    Long ones are `folded`: a reader opens them.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        text: Sentences above.
        plots: Names of `figures.plots_of` that belong here, if they are drawn.
        tables: What the plots show, and more.
    """

    title: str
    text: str = ""
    plots: Sequence[str] = ()
    tables: Sequence[Table] = field(default_factory=list)


def sections_of(findings: Findings) -> list[Section]:
    """Write all parts of the page, in order."""
    examples = findings.examples
    found = [_points(findings)]
    if examples is not None:
        found += [
            *_exits(examples),
            *_confidence(examples),
            *_oracle(examples),
            *_groups(examples),
        ]
    return [*found, _cost(findings), _parity(findings), _origin(findings)]


def percent(share: float | None) -> str:
    """Write a share with one digit."""
    return "" if share is None else f"{100 * share:.1f} %"


def _spell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_spell(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "[" + " ".join(map(_spell, value)) + "]"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _quality(examples: OnExamples, value: float) -> str:
    return percent(value) if examples.share else f"{value:.4g}"


def _points(findings: Findings) -> Section:
    title, points, examples = "Operating points", findings.operating_points, findings.examples
    text = "" if points else "There are none; effbert tune BUNDLE --data FILE chooses some. "
    tables = [_stored(points)] if points else []
    if examples is not None:
        what = "examples" if examples.labelled else "examples without labels"
        text += (
            f"On {examples.rows:,} {what} of {examples.data}; times are the mean of a text alone, "
            "added up from the segments on this machine. "
        )
        if examples.skipped:
            text += f"{examples.skipped:,} lines could not be read and were left out. "
        if examples.left_out:
            left = "; ".join(f"{name}: {why}" for name, why in examples.left_out.items())
            text += f"Not replayed here: {left}."
        ways = [examples.full, *([examples.oracle] if examples.oracle else []), *examples.points]
        tables.append(_ways(examples, ways))
        curve = [(f"{ms:.3f}", _quality(examples, value)) for ms, value in examples.front]
        if curve:
            caption = "The curve: one threshold for all exits, from late to early"
            tables.append(Table(caption, ("ms a text", examples.metric), curve, folded=True))
    return Section(title, text.strip(), ["front"], tables)


def _stored(points: Sequence[OperatingPoint]) -> Table:
    rows = []
    for point in points:
        promise = point.guarantee
        kept = (
            f"loss at most {promise.risk:g} with probability {promise.confidence:g}"
            if promise
            else "none"
        )
        rows.append(
            (point.name, *map(_spell, (point.knobs, point.quality, point.cost)), kept, point.data)
        )
    return Table(
        "As stored in the bundle, with what was measured when they were chosen",
        ("name", "knobs", "quality", "cost", "guarantee", "chosen on"),
        rows,
    )


def _ways(examples: OnExamples, ways: Sequence[Way]) -> Table:
    rows, number = [], 0
    for way in ways:
        number += way in examples.points
        name = f"{number}. {way.name}" if way in examples.points else way.name
        rows.append(
            (
                name,
                _quality(examples, way.quality),
                f"{way.ms:.3f}",
                f"{examples.full.ms / way.ms:.2f}" if way.ms else "",
                f"{way.mean_layer:.2f}",
                percent(way.agreement),
            )
        )
    columns = (examples.metric, "ms a text", "speed-up", "mean exit layer", "as full depth")
    return Table("On these examples", ("way", *columns), rows)


def _exits(examples: OnExamples) -> Iterator[Section]:
    if len(examples.exits) < 2:
        return
    names = [point.name for point in examples.points]
    tables = []
    if names:
        rows = [
            (f"layer {each.layer}", *(percent(way.shares[index]) for way in examples.points))
            for index, each in enumerate(examples.exits)
        ]
        tables.append(Table("Share of texts that leave at each exit", ("exit", *names), rows))
    stay = [(way.name, f"{way.stay:,}", _lines(way)) for way in examples.points if way.stay]
    if stay:
        caption = f"Texts that run all layers, by their line in {examples.data}"
        tables.append(Table(caption, ("operating point", "texts", "lines"), stay))
    yield Section("Where texts leave", "", ["exits"], tables)


def _lines(way: Way) -> str:
    shown = way.stay_lines[:LINES]
    more = way.stay - len(shown)
    return ", ".join(map(str, shown)) + (f" and {more:,} more" if more else "")


def _confidence(examples: OnExamples) -> Iterator[Section]:
    rows, bins = [], []
    for each in examples.exits:
        found = each.calibration
        if found is None:
            return
        bins += [
            (f"layer {each.layer}", name, percent(part.confidence), percent(part.right), part.rows)
            for name, how in (("before", found.before), ("after", found.after))
            for part in how.bins
        ]
        rows.append(
            (
                *(f"layer {each.layer}", f"{found.temperature:.3f}"),
                *(percent(found.before.error), percent(found.after.error)),
                *(f"{found.before.surprise:.3f}", f"{found.after.surprise:.3f}"),
            )
        )
    text = (
        "An exit is calibrated if it is right as often as it is sure. The expected calibration "
        "error is the mean distance between both, in 15 bins. Dividing logits by a temperature "
        "changes no answer, only how sure it is; what it brings is told on examples it was not "
        "fitted on (Guo et al. 2017; Schwartz et al. 2020)."
    )
    errors = ("error before", "error after", "-log p before", "-log p after")
    yield Section(
        "Confidence",
        text,
        ["reliability"],
        [
            Table("Calibration of each exit", ("exit", "temperature", *errors), rows),
            Table(
                "Bins of confidence at each exit, before and after the temperature",
                ("exit", "temperature", "confidence", "right", "texts"),
                [(*others, f"{count:,}") for *others, count in bins],
                folded=True,
            ),
        ],
    )


def _oracle(examples: OnExamples) -> Iterator[Section]:
    if examples.oracle is None or examples.overthinking is None or len(examples.exits) < 2:
        return
    best, wasted = examples.oracle, examples.overthinking
    text = (
        f"Right means: {examples.right_is}. An oracle that knows the earliest right exit would "
        f"leave after layer {best.mean_layer:.2f} on average and have {percent(best.right)} right. "
        f"{percent(wasted.wasteful)} of the texts are right at full depth and were right before; "
        f"{percent(wasted.destructive)} were right at an exit and are wrong at full depth "
        "(overthinking; Kaya et al. 2019). The Difficulty Inversion Score is the share of pairs of "
        "a right and a wrong text in which the exit's signal is surer of the right one; 50 % is "
        "chance (Li et al. 2021)."
    )
    rows = [
        (
            *(f"layer {each.layer}", percent(each.right)),
            "the last exit" if index == len(examples.exits) - 1 else percent(each.inversion),
        )
        for index, each in enumerate(examples.exits)
    ]
    tables = [Table("Each exit for all texts", ("exit", "right", "inversion score"), rows)]
    if examples.agreement is not None:
        layers = [f"layer {each.layer}" for each in examples.exits]
        shares = [
            (layer, *map(percent, row))
            for layer, row in zip(layers, examples.agreement, strict=True)
        ]
        tables.append(Table("Texts that two exits answer alike", ("exit", *layers), shares))
    yield Section("What the exits know", text, ["oracle"], tables)


def _groups(examples: OnExamples) -> Iterator[Section]:
    names = ["full depth", *(point.name for point in examples.points)]
    graded = examples.right_is is not None
    tables = []
    for what, groups in (("label", examples.classes), ("length", examples.lengths)):
        rows = []
        for group in groups:
            layers = [f"{each:.2f}" for each in group.layers[1:]]
            right = map(percent, group.right) if graded else ()
            rows.append((group.name, f"{group.rows:,}", *layers, *right))
        if rows:
            columns = [f"mean layer, {name}" for name in names[1:]]
            columns += [f"right, {name}" for name in names] if graded else []
            tables.append(Table(f"By {what}", (what, "texts", *columns), rows))
    yield Section("Labels and lengths", "", (), tables)


def _cost(findings: Findings) -> Section:
    timed = findings.examples is not None
    rows = [
        (
            *(f"layer {each.layer}", each.file, f"{each.parameters:,}", f"{each.bytes:,}"),
            *(f"{value / 1e6:.2f}" for value in each.flops.values()),
            *([f"{each.ms:.3f}"] if timed and each.ms is not None else []),
        )
        for each in findings.segments
    ]
    tokens = [f"MFLOPs, {count} tokens" for count in findings.segments[0].flops]
    columns = ("up to", "file", "parameters", "bytes", *tokens, *(["ms a text"] if timed else []))
    text = "What each segment adds, head and boundary included; shared weights are not counted."
    return Section("Cost of the segments", text, ["cost"], [Table("Segments", columns, rows)])


def _parity(findings: Findings) -> Section:
    rows = [
        (f"layer {each.layer}", f"{each.difference:.1e}")
        for each in findings.segments
        if each.difference is not None
    ]
    tables = [Table("Largest difference to torch", ("exit", "difference"), rows)] if rows else []
    return Section("Parity with the checkpoint", findings.parity, ["parity"], tables)


def _origin(findings: Findings) -> Section:
    files = [(name, f"{size:,}", digest) for name, (size, digest) in findings.files.items()]
    return Section(
        "Bundle, machine and files",
        "",
        (),
        [
            Table("The bundle", ("what", "value"), [*findings.facts.items()]),
            Table("Where this page was made", ("what", "value"), [*findings.machine.items()]),
            Table("Files of the bundle", ("file", "bytes", "SHA-256"), files),
        ],
    )

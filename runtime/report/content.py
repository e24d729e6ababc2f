"""What a report says about a bundle: facts of its manifest, of this machine, and of examples."""

from __future__ import annotations

from dataclasses import dataclass

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Manifest, OperatingPoint, to_float
from effbert.runtime.bundle.parity_text import spell_agreement
from effbert.runtime.points.diagnostics import Group, Overthinking
from effbert.runtime.points.reliability import Calibration

TOKENS = (32, 128)  # lengths of the rows whose FLOPs are told


@dataclass(frozen=True)
class Segment:
    """The part of the model up to an exit.

    Attributes:
        layer: 1-based encoder layer of the exit.
        file: Of the bundle.
        parameters, bytes: Its own, without what it reads of shared weights.
        flops: Tokens of a row -> FLOPs of the row in this segment.
        difference: Largest absolute difference to torch at export; None if not verified.
        ms: Mean milliseconds of an example in this segment alone on this machine; None without.
    """

    layer: int
    file: str
    parameters: int
    bytes: int
    flops: dict[str, int]
    difference: float | None
    ms: float | None = None


@dataclass(frozen=True)
class Way:
    """One way to leave early, on the examples.

    Attributes:
        name: Of the operating point; or full depth, or the oracle.
        quality: The metric's.
        ms: Mean milliseconds of a text alone, from the times of the segments.
        mean_layer: Where texts leave.
        shares: Share of the texts that leaves at each exit.
        right: Share of the texts that is answered rightly; None for numbers.
        agreement: Share of the texts that is answered as at full depth.
        stay: How many texts run all layers though others leave.
        stay_lines: Where the first of them stand in the file.
    """

    name: str
    quality: float
    ms: float
    mean_layer: float
    shares: list[float]
    right: float | None
    agreement: float
    stay: int
    stay_lines: list[int]


@dataclass(frozen=True)
class Exit:
    """One exit, asked about all examples.

    Attributes:
        layer: 1-based.
        right: Share that it answers rightly, or as full depth does; None for numbers.
        inversion: Difficulty Inversion Score of its signal, 0 to 1; None if it cannot be told.
        calibration: None for tasks without a label a text, without labels, or with very many.
    """

    layer: int
    right: float | None
    inversion: float | None
    calibration: Calibration | None


@dataclass(frozen=True)
class OnExamples:
    """What examples show.

    Attributes:
        data: Name of the file.
        rows: How many examples; `skipped` lines were left out.
        labelled: Whether the file says what is right; if not, full depth does.
        metric: Name of the quality, a `share` of 1 or not.
        right_is: What a right answer is here, in words; None where answers are numbers.
        full, oracle, points: Ways to answer; there is no oracle for numbers.
        left_out: Operating points that the pass does not show, and why.
        front: (Milliseconds, quality) of thresholds from late to early; one threshold for all.
        exits: Each exit alone.
        agreement: Share of examples that two exits answer alike, where answers are single labels.
        overthinking: How much the layers behind an exit waste, and harm; None for numbers.
        classes, lengths: Groups of examples; their numbers are those of full depth and `points`.
    """

    data: str
    rows: int
    skipped: int
    labelled: bool
    metric: str
    share: bool
    right_is: str | None
    full: Way
    oracle: Way | None
    points: list[Way]
    left_out: dict[str, str]
    front: list[tuple[float, float]]
    exits: list[Exit]
    agreement: list[list[float]] | None
    overthinking: Overthinking | None
    classes: list[Group]
    lengths: list[Group]


@dataclass(frozen=True)
class Findings:
    """Everything that the page shows.

    Attributes:
        name: Of the bundle.
        facts: What it is.
        segments: In order.
        operating_points: As the manifest has them.
        parity: The verification at export in words.
        tolerance: What was allowed there; None below float32.
        files: Name -> (bytes, SHA-256).
        machine: Where the report was made, and with what.
        examples: None without data.
    """

    name: str
    facts: dict[str, str]
    segments: list[Segment]
    operating_points: list[OperatingPoint]
    parity: str
    tolerance: float | None
    files: dict[str, tuple[int, str]]
    machine: dict[str, str]
    examples: OnExamples | None = None


def facts_of(bundle: Bundle) -> dict[str, str]:
    """Tell what a bundle is, for people."""
    manifest = bundle.manifest
    source, policy = manifest.source, manifest.policy
    task = (manifest.task, manifest.problem, manifest.activation)
    size = sum(file.size for file in manifest.files.values())
    facts = {
        "source": f"{source.name}, SHA-256 of its weights {source.sha256}",
        "system": f"{source.format}, {source.architecture}",
        "paper": source.paper,
        "task": ", ".join(filter(None, task)),
        "labels": ", ".join(manifest.labels[:20]) + (" ..." if len(manifest.labels) > 20 else ""),
        "exit policy": f"{policy.name}: {policy.rule}",
        "precision": manifest.precision,
        "length": f"up to {manifest.limits.max_length} tokens",
        "size": f"{size / 1e6:.1f} MB in {len(manifest.files)} files",
        "made by": ", ".join(f"{name} {value}" for name, value in manifest.producer.items()),
    }
    if bundle.origin:
        facts["hub"] = bundle.origin
    return {name: value for name, value in facts.items() if value}


def segments_of(manifest: Manifest) -> list[Segment]:
    """Tell what each segment of the default variant costs, and how far it is from torch."""
    worst = manifest.parity.max_abs_diff if manifest.parity else [None] * len(manifest.segments)
    return [
        Segment(
            layer=segment.layer,
            file=segment.file,
            parameters=segment.parameters,
            bytes=manifest.files[segment.file].size,
            flops={str(n): _flops(segment.flops, n) for n in TOKENS},
            difference=None if difference is None else to_float(difference),
        )
        for segment, difference in zip(manifest.segments, worst, strict=True)
    ]


def _flops(terms: tuple[int, int, int], tokens: int) -> int:
    return terms[0] + terms[1] * tokens + terms[2] * tokens * tokens


def parity_of(manifest: Manifest) -> str:
    """Say how the bundle was verified at export."""
    parity = manifest.parity
    if parity is None:
        return "The bundle was not compared with torch at export."
    if parity.atol is None:
        return f"Compared with torch on {parity.rows} rows at export: {spell_agreement(parity)}."
    return (
        f"Compared with torch on {parity.rows} rows at export; a number may differ by "
        f"{parity.atol:.1e} beside rounding of its own size."
    )

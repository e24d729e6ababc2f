"""The search from a bundle and a file of labelled texts to the front in the manifest."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effbert.runtime.bundle.folder import open_bundle, require_own_manifest
from effbert.runtime.bundle.manifest import Manifest, OperatingPoint, to_float, to_numbers
from effbert.runtime.chain.knobs import KnobValue
from effbert.runtime.errors import InputError
from effbert.runtime.points.evolution import Evaluated, Settings, evolve, pareto_front
from effbert.runtime.points.genes import Gene, Space
from effbert.runtime.points.labelled_batches import LabelledBatch, read_batches
from effbert.runtime.points.measure import COSTS, measure
from effbert.runtime.points.store import (
    Header,
    Store,
    Task,
    create_store,
    resume_store,
    store_exists,
)
from effbert.runtime.points.stored_points import replace_points
from effbert.runtime.points.thresholds import THRESHOLD, find_thresholds
from effbert.runtime.session import Session

LENGTHS = "lengths"
OVER = (LENGTHS, THRESHOLD)
OWN_POINTS = re.compile(r"front-\d+")


@dataclass(frozen=True)
class Search:
    """What to search, and how.

    Attributes:
        bundle: Folder of the bundle.
        data: CSV file of labelled texts.
        store: File of the evaluated genes.
        over: Knobs to search, "lengths" and "threshold"; None for those that the bundle has.
        cost: "latency" or "flops".
        generations: How often the population is renewed.
        settings: Sizes, probability and seed of the evolution.
        resume: Go on with what the store holds.
        engine: What runs the segments; None is the first engine that is installed.
        threads: Threads that compute one segment; None is what a session chooses.
    """

    bundle: Path
    data: Path
    store: Path
    over: tuple[str, ...] | None = None
    cost: str = "latency"
    generations: int = 30
    settings: Settings = field(default_factory=Settings)
    resume: bool = False
    engine: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Found:
    """The outcome.

    Attributes:
        points: The front, cheapest first, as the manifest has it now.
        evaluated: Every gene.
    """

    points: list[OperatingPoint]
    evaluated: list[Evaluated]


def search(options: Search, progress: Callable[[Evaluated], None] = lambda _: None) -> Found:
    """Search knob values and write the front into the manifest.

    Args:
        options: What to search, and how.
        progress: Told each gene.

    Raises:
        InputError: Bundle, data, options and store do not fit each other.
        BundleError, RunError: The bundle cannot be read, run or written.
    """
    bundle = open_bundle(options.bundle)
    require_own_manifest(bundle)
    over = _chosen_knobs(options, bundle.manifest)
    _check(over, options.cost, bundle.manifest)
    if options.store.exists() and not options.resume:
        raise store_exists(options.store)
    batches = read_batches(bundle, options.data)
    with Session(bundle, options.engine, options.threads) as session:
        store = _open_store(options, over, session, batches)
        try:
            evaluated = _evolve(options, session, batches, store, progress)
        finally:
            store.close()
    rows = sum(len(batch.tokens) for batch in batches)
    data = f"{options.data.name}, {rows} texts"
    full = evaluated[0].quality
    points = [
        _point(rank, item, full, data, bundle.manifest, store.header)
        for rank, item in enumerate(pareto_front(evaluated), 1)
    ]
    replace_points(options.bundle, points, lambda name: bool(OWN_POINTS.fullmatch(name)))
    return Found(points, evaluated)


def _evolve(
    options: Search,
    session: Session,
    batches: Sequence[LabelledBatch],
    store: Store,
    progress: Callable[[Evaluated], None],
) -> list[Evaluated]:
    """Run the evolution; genes that the store knows are not measured again."""
    header = store.header
    layers = session.knobs[LENGTHS].count if LENGTHS in header.task.over else 0
    space = Space(layers or 0, header.tokens, 1 + len(header.thresholds))
    full = {name: to_numbers(session.knobs[name].never) for name in OVER if name in session.knobs}

    def evaluate(gene: Gene, generation: int, method: str) -> Evaluated:
        item = store.known.get(gene)
        if item is None:
            knobs = knob_values(gene, session.bundle.manifest, header)
            quality, cost = measure(session, batches, knobs, full, options.cost)
            item = Evaluated(gene, quality, cost, generation, method)
            store.add(item)
        progress(item)
        return item

    return evolve(space, options.settings, options.generations, evaluate)


def knob_values(gene: Gene, manifest: Manifest, header: Header) -> dict[str, KnobValue]:
    """Return the knob values that a gene stands for.

    A length becomes a share of the longest text, rounded down: a share of it is rounded up.
    """
    knobs = {knob.name: knob for knob in manifest.knobs}
    values: dict[str, KnobValue] = {}
    if LENGTHS in header.task.over:
        tokens = header.tokens
        values[LENGTHS] = [math.floor(1e4 * each / tokens) / 1e4 for each in gene.lengths]
    if THRESHOLD in header.task.over:
        ladder = (to_float(knobs[THRESHOLD].never), *header.thresholds)
        value = ladder[gene.level]
        values[THRESHOLD] = int(value) if knobs[THRESHOLD].dtype == "int64" else value
    return values


def _chosen_knobs(options: Search, manifest: Manifest) -> tuple[str, ...]:
    """Tell what to search: what the user says, or every knob of the bundle that can be searched."""
    if options.over is not None:
        return options.over
    knobs = {knob.name for knob in manifest.knobs}
    over = tuple(name for name in OVER if name in knobs)
    if over == OVER and _words_exit(manifest):
        over = (LENGTHS,)
    if not over:
        known = ", ".join(sorted(knobs)) or "none"
        raise InputError(
            f"The bundle has no knob to search (its knobs: {known}); export a checkpoint with "
            "exits, or with --length-adaptive."
        )
    return over


def _words_exit(manifest: Manifest) -> bool:
    return any(
        item.name == "exit_layer" for segment in manifest.segments for item in segment.outputs
    )


def _check(over: tuple[str, ...], cost: str, manifest: Manifest) -> None:
    knobs = {knob.name for knob in manifest.knobs}
    if not over or not set(over) <= set(OVER):
        raise InputError(f"--over: got {','.join(over)}, expected lengths, threshold or both.")
    if cost not in COSTS:
        raise InputError(f"--cost: got {cost}, expected {' or '.join(COSTS)}.")
    for name, remedy in (
        (LENGTHS, "export it with --length-adaptive"),
        (THRESHOLD, "search --over lengths"),
    ):
        if name in over and name not in knobs:
            known = ", ".join(sorted(knobs)) or "none"
            raise InputError(
                f"The bundle has no knob {name!r} to search (its knobs: {known}); {remedy}."
            )
    per_token = any(any(segment.flops[1:]) for segment in manifest.segments)
    if cost == "flops" and LENGTHS in over and not per_token:
        raise InputError(
            "This bundle pads every row to one length, and its manifest counts FLOPs for that "
            "length only; search with --cost latency."
        )
    if _words_exit(manifest) and THRESHOLD in over:
        raise InputError(
            "Words of this bundle exit one by one, so its thresholds are not searched; search "
            "--over lengths."
        )


def _open_store(
    options: Search, over: tuple[str, ...], session: Session, batches: Sequence[LabelledBatch]
) -> Store:
    files = session.bundle.manifest.files
    weights = "".join(f"{name} {files[name].sha256}\n" for name in sorted(files))
    task = Task(
        bundle=hashlib.sha256(weights.encode()).hexdigest(),
        data=hashlib.sha256(options.data.read_bytes()).hexdigest(),
        over=tuple(name for name in OVER if name in over),
        cost=options.cost,
        settings=options.settings,
    )
    store = resume_store(options.store, task) if options.resume else None
    if store is None:
        thresholds = find_thresholds(session, batches) if THRESHOLD in task.over else ()
        tokens = max(int(batch.tokens.max()) for batch in batches)
        store = create_store(options.store, Header(task, tokens, thresholds))
    return store


def _point(
    rank: int, item: Evaluated, full: float, data: str, manifest: Manifest, header: Header
) -> OperatingPoint:
    never = {knob.name: knob.never for knob in manifest.knobs}
    values: dict[str, Any] = knob_values(item.gene, manifest, header)
    if THRESHOLD in values and item.gene.level == 0:
        values[THRESHOLD] = never[THRESHOLD]  # infinity is a string in a manifest
    return OperatingPoint(
        name=f"front-{rank}",
        knobs=values,
        data=data,
        quality={"accuracy": round(100 * item.quality, 2), "full accuracy": round(100 * full, 2)},
        cost={f"{header.task.cost} ratio": round(item.cost, 4)},
    )

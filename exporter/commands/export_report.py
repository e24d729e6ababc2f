"""What an export says when it is done: a table for people, a dictionary for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
import msgspec

from effbert.runtime.bundle.parity_text import spell_agreement
from effbert.runtime.bundle.variants import knob_combinations, spell
from effbert.runtime.console.tables import amount, print_table

if TYPE_CHECKING:
    from effbert.exporter.pipeline import Report
    from effbert.runtime import Placement


def summarize(report: Report) -> dict[str, Any]:
    """Give the report as JSON values: the output of `effbert-export --json`.

    `passes` tells what each stage changed: in the whole `graph`, and in every one of `segments`.
    """
    manifest, described, passes = report.manifest, report.description, report.passes
    return {
        "bundle": str(report.bundle),
        "written": manifest is not None,
        "format": described.format,
        "paper": described.paper,
        "architecture": described.architecture,
        "task": described.task,
        "problem": described.problem,
        "labels": list(described.labels),
        "precision": None if manifest is None else manifest.precision,
        "exits": list(described.layers),
        "policy": report.policy.name,
        "knobs": {knob.name: knob.default for knob in report.plan.knobs},
        "notes": list(report.notes),
        "size": report.size,
        "tokenizer": report.tokenizer,
        "parity": None if manifest is None else msgspec.to_builtins(manifest.parity),
        "passes": None
        if passes is None
        else {
            "graph": dict(passes.graph),
            "segments": [
                {
                    **segment.changes,
                    "attentions": segment.attentions,
                    "lowered": segment.lowered,
                }
                for segment in passes.segments
            ],
        },
        "placement": None if report.placement is None else asdict(report.placement),
        "seconds": report.seconds,
    }


def print_report(report: Report) -> None:
    """Print the report as a table, and the exits with their parity and passes as another."""
    print_table("effbert export", ("what", "value"), list(_facts(report).items()))
    if report.manifest is not None:
        _print_exits(report)
    if report.placement is not None:
        _print_placement(report.placement)
    for note in report.notes:
        click.echo(f"Note: {note}")


def _facts(report: Report) -> dict[str, object]:
    described, manifest = report.description, report.manifest
    knobs = ", ".join(f"{knob.name}={knob.default}" for knob in report.plan.knobs)
    facts: dict[str, object] = {
        "bundle": report.bundle if manifest else f"{report.bundle} (dry run, nothing written)",
        "format": f"{described.format}{', ' if described.paper else ''}{described.paper}",
        "encoder": described.architecture,
        "task": described.task + (f" ({described.problem})" if described.problem else ""),
        "labels": ", ".join(described.labels[:8]) + (" ..." if len(described.labels) > 8 else ""),
        "exits": ", ".join(map(str, described.layers)),
        "policy": f"{report.policy.name}: {report.policy.rule}",
        "knobs": knobs or "none",
        "tokenizer": _tokenizer(report),
    }
    if manifest is not None and manifest.variants:
        facts["variants"] = "; ".join(map(spell, knob_combinations(manifest)))
    if manifest is not None and manifest.precision != "fp32":
        found = f": {spell_agreement(manifest.parity)}" if manifest.parity else ""
        facts["precision"] = f"{manifest.precision}{found}"
    if report.passes is not None and report.passes.attentions:
        facts["attention"] = f"{report.passes.fused} of {report.passes.attentions} fused"
    if report.size is not None:
        facts["size"] = amount(report.size, "B")
        facts["time"] = f"{report.seconds:.1f} s"
    return facts


def _tokenizer(report: Report) -> str:
    found = report.plan.tokenizer
    if found is None:
        return "none: token ids only"
    parity = report.manifest.parity if report.manifest else None
    compared = f", equal to the checkpoint's in {parity.texts} comparisons" if parity else ""
    return f"{type(found.own).__name__}{compared}"


def _print_exits(report: Report) -> None:
    assert report.manifest is not None
    assert report.passes is not None
    parity, segments = report.manifest.parity, report.manifest.segments
    worst = parity.max_abs_diff if parity else ["not checked"] * len(segments)
    attends, lowered = report.passes.attentions > 0, report.manifest.precision != "fp32"
    columns = ["exit", "layer", "segment", "parameters", "largest difference"]
    columns += ["attention fused"] if attends else []
    columns += ["lowered"] if lowered else []
    rows = [
        [
            *(index, item.layer, item.file, amount(item.parameters), difference),
            *([f"{passes.fused} of {passes.attentions}"] if attends else []),
            *([passes.lowered] if lowered else []),
        ]
        for index, (item, difference, passes) in enumerate(
            zip(segments, worst, report.passes.segments, strict=True)
        )
    ]
    print_table(
        "Exits" + (f", compared with torch on {parity.rows} rows" if parity else ""),
        columns,
        rows,
    )


def _print_placement(placement: Placement) -> None:
    """Print what exits cost and save; the ones that were kept have a star."""
    print_table(
        f"Exits tried on {placement.examples} examples; full depth: {placement.full:.4g} "
        f"{placement.metric}, {placement.full_ms:.3g} ms; an exit costs {placement.exit_ms:.2g} ms",
        ("exits", "after layers", placement.metric, "ms", "mean exit layer"),
        [
            (
                f"{each.name} *" if each.layers == placement.layers else each.name,
                ", ".join(map(str, each.layers)),
                *(f"{each.quality:.4g}", f"{each.ms:.3g}", f"{each.mean_layer:.2f}"),
            )
            for each in placement.candidates
        ],
    )

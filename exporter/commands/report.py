"""What an export says when it is done: a table for people, a dictionary for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from effbert.runtime.bundle.parity_text import spell_agreement
from effbert.runtime.bundle.variants import combinations, spell
from effbert.runtime.console.tables import amount, print_table

if TYPE_CHECKING:
    from effbert.exporter.pipeline import Report
    from effbert.runtime.bundle.manifest import Knob


def summarize(report: Report) -> dict[str, Any]:
    """Give the report as JSON values: the output of `effbert-export --json`."""
    manifest, described = report.manifest, report.description
    return {
        "bundle": str(report.bundle),
        "written": manifest is not None,
        "format": report.format,
        "paper": report.paper,
        "architecture": described.architecture,
        "task": described.task,
        "problem": described.problem,
        "labels": list(described.labels),
        "precision": None if manifest is None else manifest.precision,
        "exits": list(described.layers),
        "policy": report.policy.name,
        "knobs": {knob.name: knob.default for knob in _knobs(report)},
        "notes": list(described.notes),
        "size": report.size,
        "tokenizer": report.tokenizer,
        "parity": None if manifest is None else msgspec.to_builtins(manifest.parity),
        "seconds": report.seconds,
    }


def print_report(report: Report) -> None:
    """Print the report as a table, and the exits with their parity as another."""
    described, manifest = report.description, report.manifest
    knobs = ", ".join(f"{knob.name}={knob.default}" for knob in _knobs(report))
    facts = {
        "bundle": report.bundle if manifest else f"{report.bundle} (dry run, nothing written)",
        "format": f"{report.format}{', ' if report.paper else ''}{report.paper}",
        "encoder": described.architecture,
        "task": described.task + (f" ({described.problem})" if described.problem else ""),
        "labels": ", ".join(described.labels[:8]) + (" ..." if len(described.labels) > 8 else ""),
        "exits": ", ".join(map(str, described.layers)),
        "policy": f"{report.policy.name}: {report.policy.rule}",
        "knobs": knobs or "none",
        "tokenizer": "included" if report.tokenizer else "none found: token ids only",
    }
    if manifest is not None and manifest.variants:
        facts["variants"] = "; ".join(map(spell, combinations(manifest)))
    if manifest is not None and manifest.precision != "fp32":
        found = f": {spell_agreement(manifest.parity)}" if manifest.parity else ""
        facts["precision"] = f"{manifest.precision}{found}"
    if report.size is not None:
        facts["size"] = amount(report.size, "B")
        facts["time"] = f"{report.seconds:.1f} s"
    print_table("effbert export", ("what", "value"), list(facts.items()))
    if manifest is not None:
        parity = manifest.parity
        worst = parity.max_abs_diff if parity else ["not checked"] * len(manifest.segments)
        print_table(
            "Exits" + (f", compared with torch on {parity.rows} rows" if parity else ""),
            ("exit", "layer", "segment", "parameters", "largest difference"),
            [
                (index, item.layer, item.file, amount(item.parameters), difference)
                for index, (item, difference) in enumerate(
                    zip(manifest.segments, worst, strict=True)
                )
            ],
        )
    for note in described.notes:
        click.echo(f"Note: {note}")


def _knobs(report: Report) -> list[Knob]:
    return [*report.policy.knobs, *report.description.knobs, *report.selectors]

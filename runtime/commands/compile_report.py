"""What `effbert compile` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from effbert.runtime.console.tables import amount, print_table

if TYPE_CHECKING:
    from effbert.runtime.compile.compiling import Checked, Compiled


def print_check(found: Sequence[Checked]) -> None:
    """Print what is changed in each segment, and what cannot be built."""
    rows = [
        (each.file, "; ".join(f"{n} {name}" for name, n in each.changes.items() if n) or "nothing")
        for each in found
    ]
    print_table("What is changed", ("segment", "changes"), rows)
    problems = [(each.file, *problem) for each in found for problem in each.problems]
    columns = ("segment", "node", "operator", "reason", "way out")
    print_table("What cannot be built", columns, problems)
    if not problems:
        click.echo("Nothing was found that cannot be built.")


def facts(compiled: Compiled, served: Any) -> dict[str, Any]:
    """Collect what `--json` prints."""
    index = compiled.index
    found: dict[str, Any] = {
        "folder": str(compiled.folder),
        "reused": not compiled.built,
        "engine": index.engine,
        "library": index.library,
        "targets": index.targets,
        "compute": index.compute,
        "plans": [
            {"segment": plan.file, "plan": plan.plan, "size": plan.size, "sha256": plan.plan_sha256}
            for plan in index.segments
        ],
        "built": [built._asdict() for built in compiled.built],
        "copied_bytes": compiled.copies[1],
        "evicted": [str(folder) for folder, _ in compiled.evicted],
    }
    if served is not None:
        found["traffic"] = [
            {"profile": str(each.profile), "share": each.share, "waste": each.waste}
            for each in served[0]
        ]
        found["outside"] = served[1]
    return found


def print_compiled(compiled: Compiled, served: Any) -> None:
    """Print what was built, how it serves the traffic, and where it is."""
    index, number = compiled.index, len(compiled.index.segments[0].profiles)
    title = f"{index.engine} {index.library}, {index.compute}, {', '.join(index.targets)}"
    rows = [
        (b.file, f"{b.seconds:.1f}", amount(b.size, "B"), amount(b.peak, "B"))
        for b in compiled.built
    ]
    print_table(title, ("segment", "seconds", "plan", "peak memory"), rows)
    if served is not None:
        _print_served(served)
    total = sum(plan.size for plan in index.segments)
    click.echo(
        f"{len(index.segments)} plans with {number} profile(s), {amount(total, 'B')}, "
        f"{'are in' if compiled.built else 'were there already:'} {compiled.folder}"
    )
    copies, more = compiled.copies
    if copies:
        click.echo(
            f"{copies} of them hold weights that the bundle has once: {amount(more, 'B')} more."
        )
    for folder, size in compiled.evicted:
        click.echo(f"The cache was full: {folder} ({amount(size, 'B')}) is gone.")


def _print_served(served: Any) -> None:
    profiles, outside = served
    rows = [
        (str(each.profile), f"{100 * each.share:.0f} %", f"{100 * each.waste:.0f} %")
        for each in profiles
    ]
    print_table("Traffic", ("profile", "calls", "predicted waste"), rows)
    if outside:
        click.echo(f"{100 * outside:.1f} % of the calls are outside every profile.")

"""`effbert formats`: what can be exported, and with which exit policies."""

from __future__ import annotations

import json
from typing import Any

import click

from effbert.exporter.commands.extra import require_extra
from effbert.runtime.console.groups import Reporting
from effbert.runtime.console.tables import print_table


@click.command("formats", cls=Reporting)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def formats_command(as_json: bool) -> None:
    """List the checkpoint formats, their exit policies, knobs and papers."""
    require_extra()
    listing = list_formats()
    if as_json:
        click.echo(json.dumps(listing, indent=2))
    else:
        print_formats(listing)


def list_formats() -> dict[str, list[dict[str, Any]]]:
    """Give formats and policies as JSON values."""
    from effbert.exporter.formats import FORMATS
    from effbert.exporter.policies import POLICIES

    formats = [
        {"name": each.name, "paper": each.paper, "policies": list(each.policies)}
        for each in FORMATS
    ]
    policies = [
        {
            "name": policy.name,
            "rule": policy.rule,
            "paper": policy.paper,
            "problems": list(policy.problems),
            "knobs": [
                {
                    "name": knob.name,
                    "dtype": knob.dtype,
                    "per_exit": knob.per_exit,
                    "never": knob.never,
                    "raising": knob.raising,
                }
                for knob in (*policy.knobs, *policy.model_knobs)
            ],
        }
        for policy in POLICIES.values()
    ]
    return {"formats": formats, "policies": policies}


def print_formats(listing: dict[str, list[dict[str, Any]]]) -> None:
    """Print the listing as two tables."""
    print_table(
        "Formats, in the order of detection",
        ("format", "exit policies", "paper"),
        [(f["name"], ", ".join(f["policies"]), f["paper"]) for f in listing["formats"]],
    )
    print_table(
        "Exit policies",
        ("policy", "rule", "knobs (raising them exits ...)", "paper"),
        [
            (
                policy["name"],
                policy["rule"],
                ", ".join(f"{knob['name']} ({knob['raising']})" for knob in policy["knobs"]),
                policy["paper"],
            )
            for policy in listing["policies"]
        ],
    )

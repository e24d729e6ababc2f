"""`effbert validate`: is this bundle what its exporter wrote?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from effbert.runtime.commands.shared_options import (
    device_options,
    engine_option,
    json_option,
    revision_option,
)
from effbert.runtime.console.groups import Reporting
from effbert.runtime.console.tables import amount, print_table

if TYPE_CHECKING:
    from effbert.runtime.checks.replay import Validation

EXAMPLES = """
\b
Examples:
  effbert validate ./bundle
  effbert validate ./bundle --engine openvino --deep
"""


@click.command(cls=Reporting, epilog=EXAMPLES)
@click.argument("bundle")
@revision_option
@engine_option
@device_options
@click.option("--deep", is_flag=True, help="Inspect the graphs too (needs the export extra).")
@json_option()
def validate(
    bundle: str,
    revision: str | None,
    engine: str | None,
    deep: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Check the hashes of a BUNDLE and compute its golden answers again.

    With an engine whose rows nobody measured at this precision, it also measures how much a row's
    answer depends on its batch, and keeps that beside the plans.
    """
    from effbert.runtime.checks.replay import validate as check_bundle

    result = check_bundle(bundle, deep=deep, engine=engine, revision=revision, where=where)
    if as_json:
        click.echo(json.dumps({"valid": True, **asdict(result)}))
        return
    rows = [
        ("manifest", "consistent"),
        ("files", f"{result.files} intact ({amount(result.bytes, 'B')})"),
        ("golden texts", f"{result.texts} give the same token ids" if result.texts else "none"),
        ("golden rows", _golden(result)),
    ]
    if result.max_abs_diff is not None:
        rows.append(("worst difference", f"{result.max_abs_diff:.1e}"))
    if result.rows_apart is not None:
        apart = f"{result.rows_apart:.1e} between a row alone and in a batch (measured now)"
        rows.append(("row independence", apart))
    if result.nodes is not None:
        rows.append(("graphs", f"{result.nodes} nodes, all standard, nothing hidden"))
    print_table(f"{bundle} is valid", ("check", "result"), rows)


def _golden(result: Validation) -> str:
    if result.engine is None:
        return "none"
    return f"{result.rows} give the same outputs at every exit ({result.engine})"

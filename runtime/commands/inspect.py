"""`effbert inspect`: what a bundle is and what it costs, from its manifest alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from effbert.runtime.bundle.folder import Bundle, open_bundle
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.bundle.parity_text import spell_agreement
from effbert.runtime.bundle.variants import knob_combinations, spell, split_variants
from effbert.runtime.commands.shared_options import device_options, json_option, revision_option
from effbert.runtime.console.groups import Reporting
from effbert.runtime.console.tables import amount, print_table
from effbert.runtime.engines.row_independence import NOT_MEASURED, row_independence
from effbert.runtime.engines.table import ENGINES
from effbert.runtime.engines.threads import Threads, choose_threads

LENGTHS = (32, 128)


EXAMPLES = """
\b
Examples:
  effbert inspect ./bundle
  effbert inspect ./bundle --engine onnxruntime
"""


@click.command(cls=Reporting, epilog=EXAMPLES)
@click.argument("bundle")
@revision_option
@click.option(
    "--engine",
    type=click.Choice([*ENGINES]),
    help="Open the segments with this engine too, and tell how it runs them.",
)
@device_options
@json_option()
def inspect(
    bundle: str, revision: str | None, engine: str | None, as_json: bool, **where: Any
) -> None:
    """Show what is in a BUNDLE: source, exits, knobs, operating points, parity.

    Everything comes from the manifest; with --engine the segments are opened too, and the line
    `runs` tells whether that engine joins them into one graph.
    """
    opened = open_bundle(bundle, revision)
    threads = choose_threads()
    summary = summarize(opened) | {
        "hub": opened.origin,
        "engine": engine,
        "mode": _mode(opened, engine, where),
        "threads": threads.number,
        "threads_reason": threads.reason,
    }
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    print_table(bundle, ("what", "value"), list(_facts(opened.manifest, summary).items()))
    print_table(
        "Exits, with the FLOPs of one row that leaves there",
        ("exit", "layer", "parameters", *(f"{n} tokens" for n in LENGTHS), "file size"),
        [
            (
                *(exit_["exit"], exit_["layer"], amount(exit_["parameters"])),
                *(amount(exit_["flops"][str(n)]) for n in LENGTHS),
                amount(exit_["bytes"], "B"),
            )
            for exit_ in summary["exits"]
        ],
    )
    print_table(
        "Knobs",
        ("knob", "range", "default", "never", "per exit", "raising it"),
        [
            (
                *(knob["name"], f"{knob['minimum']} .. {knob['maximum']}", knob["default"]),
                *(knob["never"], "yes" if knob["per_exit"] else "no"),
                "a larger variant" if knob["choices"] else f"{knob['raising']} exits",
            )
            for knob in summary["knobs"]
        ],
    )
    if opened.manifest.variants:
        _print_variants(summary["variants"])
    print_table(
        "Operating points",
        ("name", "knobs", "data", "quality", "cost"),
        [
            (
                point["name"],
                *map(_pairs, (point["knobs"], point["data"], point["quality"], point["cost"])),
            )
            for point in summary["operating_points"]
        ],
    )


def _mode(bundle: Bundle, engine: str | None, where: Mapping[str, Any]) -> dict[str, Any] | None:
    """How an engine runs the segments; opens them."""
    if engine is None:
        return None
    from effbert.runtime.session import Session

    with Session(bundle, engine, **where) as session:
        return session.mode._asdict()


def summarize(bundle: Bundle) -> dict[str, Any]:
    """Return the facts of a bundle as plain values: the output of `effbert inspect --json`.

    `exits[k].flops[n]` are the FLOPs of one row of n tokens from the start until exit k;
    `parameters` and `bytes` are those of segment k alone, without what it reads of `weights.bin`.
    `variants` lists the exits of every variant with the knobs that select it, the default first.
    `row_independence` says for each engine how much a row's logits depend on its batch.
    """
    manifest = bundle.manifest
    variants = [
        {"knobs": dict(knobs), "exits": _exits(variant)}
        for knobs, variant in zip(
            knob_combinations(manifest), split_variants(manifest), strict=True
        )
    ]
    fields = (
        "precision",
        "source",
        "task",
        "problem",
        "activation",
        "labels",
        "limits",
        "padding_free",
        "policy",
        "knobs",
    )
    plain = msgspec.to_builtins(manifest)
    return {
        **{field: plain[field] for field in fields},
        "inputs": [tensor.name for tensor in manifest.inputs],
        "row_independence": {
            engine: row_independence(engine, manifest.precision) for engine in ENGINES
        },
        "exits": variants[0]["exits"],
        "variants": variants,
        "operating_points": plain["operating_points"],
        "parity": plain["parity"],
        "producer": manifest.producer,
        "bytes": sum(file.size for file in manifest.files.values()),
    }


def _exits(manifest: Manifest) -> list[dict[str, Any]]:
    exits = []
    flops = dict.fromkeys(LENGTHS, 0)
    for k, segment in enumerate(manifest.segments):
        constant, linear, quadratic = segment.flops
        for n in LENGTHS:
            flops[n] += constant + linear * n + quadratic * n * n
        exits.append(
            {
                "exit": k,
                "layer": segment.layer,
                "parameters": segment.parameters,
                "flops": {str(n): value for n, value in flops.items()},
                "file": segment.file,
                "bytes": manifest.files[segment.file].size,
            }
        )
    return exits


def _print_variants(variants: list[dict[str, Any]]) -> None:
    print_table(
        "Variants, with the FLOPs of one row that leaves at the last exit",
        ("knobs", "layers", "parameters", *(f"{n} tokens" for n in LENGTHS)),
        [
            (
                *(spell(variant["knobs"]), variant["exits"][-1]["layer"]),
                amount(sum(exit_["parameters"] for exit_ in variant["exits"])),
                *(amount(variant["exits"][-1]["flops"][str(n)]) for n in LENGTHS),
            )
            for variant in variants
        ],
    )


def _facts(manifest: Manifest, summary: dict[str, Any]) -> dict[str, str]:
    source, policy, parity = manifest.source, manifest.policy, manifest.parity
    labels = ", ".join(manifest.labels[:8])
    if len(manifest.labels) > 8:
        labels += f" ... ({len(manifest.labels)} in all)"
    facts = {"hub": summary["hub"]} if summary["hub"] else {}
    facts |= {
        "source": f"{source.name} (sha256 {source.sha256[:12]})",
        "system": f"{source.format}, {source.architecture}: {source.paper}",
        "task": ", ".join(filter(None, (manifest.task, manifest.problem, manifest.activation))),
        "labels": labels or "none",
        "inputs": ", ".join(summary["inputs"]),
        "texts": "yes" if manifest.tokenizer else "no tokenizer: token ids only",
        "length": f"up to {manifest.limits.max_length} tokens",
        "padding": "no effect on answers"
        if manifest.padding_free
        else "batches equal lengths only",
        "rows": _spelled_rows(summary["row_independence"]),
        "runs": _spelled_mode(summary),
        "threads": str(Threads(summary["threads"], summary["threads_reason"])),
        "exit policy": f"{policy.name}: {policy.rule} ({policy.paper})",
        "precision": manifest.precision,
        "size": f"{amount(summary['bytes'], 'B')} in {len(manifest.files)} files",
        "made by": _pairs(manifest.producer),
        "parity": "not verified",
    }
    if parity:
        worst = max(float(value) for value in parity.max_abs_diff)
        allowed = (
            f"allowed {parity.atol:.0e}" if parity.atol is not None else spell_agreement(parity)
        )
        facts["parity"] = f"{worst:.1e} ({allowed}) on {parity.rows} rows"
    return facts


def _spelled_rows(by_engine: Mapping[str, str]) -> str:
    """Write what was measured; of an engine with plans, its device knows."""
    measured = {name: found for name, found in by_engine.items() if found != NOT_MEASURED}
    return "; ".join(f"{name} {found}" for name, found in measured.items()) or NOT_MEASURED


def _spelled_mode(summary: dict[str, Any]) -> str:
    if summary["mode"] is None:
        return "not opened; --engine NAME tells how"
    how = "joined" if summary["mode"]["joined"] else "one by one"
    return f"{how} on {summary['engine']}: {summary['mode']['reason']}"


def _pairs(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_pairs(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(_pairs(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""What `static.py` measured as a Markdown table, with machine, versions and date below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from baselines import FLOAT
from effbert.runtime.bench.arms import FULL
from static_report import AGAINST, Result

POINTS = (FULL, "loss-0.5", "loss-2")  # the others would only make the table longer
BRACKETS = "Medians; in brackets the ratio to the uncut model in the same precision and engine."


def markdown(report: dict[str, Any]) -> str:
    """The table of a run on texts or on token ids, and a line about the machine."""
    results = report["results"]
    table = texts_table if "accuracy" in results[0] else lengths_table
    return f"{table(results)}\n\n{machine_line(report)}\n"


def texts_table(results: Sequence[Result]) -> str:
    """A row an arm: quality, latency in the first workload, throughput in the last."""
    small, large = (
        {r["arm"]: r for r in results if r["workload"] == results[place]["workload"]}
        for place in (0, -1)
    )
    against = [name for name in AGAINST if name in small]
    columns = ["", "accuracy, %", "mean exit layer"]
    columns += [f"p{q} at batch {results[0]['batch']}, ms" for q in (50, 95)]
    columns += [f"p50 / {name}" for name in against]
    columns += [f"texts/s at batch {results[-1]['batch']}", f"texts/s / {FLOAT}"]
    rows = []
    for arm, r in small.items():
        if r.get("point", FULL) in POINTS:
            speed = large[arm]["rows_per_second"]
            row = [title(r), f"{r['accuracy']:.1f}", f"{r['layers']:.2f}"]
            row += [f"{r[name]:.2f}" for name in ("p50_ms", "p95_ms")]
            row += [f"{r['ratios'][name][1]:.2f}" for name in against]
            rows.append([*row, f"{speed:.0f}", f"{speed / large[FLOAT]['rows_per_second']:.2f}"])
    return pipes(columns, rows)


def lengths_table(results: Sequence[Result]) -> str:
    """A row a workload: milliseconds of each arm, and of a bundle against what it has to beat."""
    workloads: dict[str, list[Result]] = {}
    for r in results:
        workloads.setdefault(r["workload"], []).append(r)
    arms = dict.fromkeys(title(r).removesuffix(f", {FULL}") for r in results)
    rows = [[name, *(milliseconds(r) for r in part)] for name, part in workloads.items()]
    return f"{pipes(['rows x tokens, ms', *arms], rows)}\n\n{BRACKETS}"


def title(result: Result) -> str:
    """Name of an arm: of a bundle at full depth, or at an operating point, or of a baseline."""
    return f"effbert {result['arm']}" if "bundle" in result else f"{result['arm']}, uncut"


def milliseconds(result: Result) -> str:
    time = f"{result['p50_ms']:.1f}"
    return f"{time} ({result['ratios'][result['uncut']][1]:.2f})" if "bundle" in result else time


def pipes(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))


def machine_line(report: dict[str, Any]) -> str:
    libraries = ("effbert", "onnxruntime", "openvino", "nncf", "torch")
    versions = ", ".join(f"{name} {report[name]}" for name in libraries if name in report)
    machine = f"{report['processor']}, {report['cores']} cores, --threads {report['threads']}"
    return f"{machine}; {versions}; {report['date']}."

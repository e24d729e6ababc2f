"""Printed tables and a plot of what `static.py` measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baselines import DYNAMIC, FLOAT, NNCF
from effbert.runtime.console.tables import print_table

AGAINST = (FLOAT, DYNAMIC, NNCF)
OURS, OTHERS = "#0b6cb5", "0.7"
Result = dict[str, Any]


def show(results: Sequence[Result]) -> None:
    """Prints the results of one workload."""
    against = [name for name in AGAINST if name in results[0]["ratios"]]
    on_texts = "accuracy" in results[0]
    print_table(
        f"{results[0]['workload']}: time of a call, and its ratio to three baselines",
        (
            *("arm", "p50, ms", "p95, ms", "p99, ms", "rows/s"),
            *(f"/ {name}" for name in against),
            *(("accuracy, %", "as torch, %") if on_texts else ("logits from torch",)),
            "setting",
        ),
        [
            (
                r["arm"],
                *(f"{r[f'p{q}_ms']:.2f}" for q in (50, 95, 99)),
                f"{r['rows_per_second']:.0f}",
                *(f"{r['ratios'][name][1]:.2f}" for name in against),
                *(
                    (f"{r['accuracy']:.1f}", f"{r['agreement']:.1f}")
                    if on_texts
                    else (f"{r['from_torch']:.1e}",)
                ),
                r["setting"],
            )
            for r in results
        ],
    )
    print_table(
        f"{results[0]['workload']}: where rows leave, and the speed-up over what FLOPs predict",
        (
            *("arm", "mean layer", "exits, % of rows", "FLOPs", "realised / ideal", "against"),
            "the same against its own full depth",
        ),
        [
            (
                r["arm"],
                f"{r['layers']:.2f}",
                " ".join(f"{100 * share:.0f}" for share in r["exits"]),
                f"{r['flops']:.3f}",
                f"{r['realised']:.2f}",
                r["uncut"],
                f"{r['realised_exits']:.2f}",
            )
            for r in results
            if "exits" in r
        ],
    )


def draw(results: Sequence[Result], path: Path) -> None:
    """Draws a panel a batch size: ratios to onnxruntime by length, or bars for texts.

    A mix of lengths beside fixed ones is left out.
    """
    from matplotlib.figure import Figure

    batches = list(dict.fromkeys(r["batch"] for r in results))
    figure = Figure(figsize=(3 + 3.5 * len(batches), 5), layout="constrained")
    panels = figure.subplots(1, len(batches), squeeze=False, sharey=True)[0]
    on_texts = "accuracy" in results[0]
    for axes, batch in zip(panels, batches, strict=True):
        part = [r for r in results if r["batch"] == batch]
        (_bars if on_texts else _lines)(axes, part)
        axes.set_title(f"{batch} rows a call" if batch > 1 else "1 row a call", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    if on_texts:
        panels[0].invert_yaxis()
    else:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", frameon=False)
    figure.savefig(path)


def _bars(axes: Any, results: Sequence[Result]) -> None:
    medians = [r["p50_ms"] for r in results]
    tails = [max(0.0, r["p95_ms"] - r["p50_ms"]) for r in results]
    colors = [OURS if "bundle" in r else OTHERS for r in results]
    axes.barh([r["arm"] for r in results], medians, xerr=[[0.0] * len(tails), tails], color=colors)
    axes.set_xlabel("ms a call: median, to the 95th percentile")
    axes.set_xlim(left=0)


def _lines(axes: Any, results: Sequence[Result]) -> None:
    results = [r for r in results if r["length"]]
    for arm in dict.fromkeys(r["arm"] for r in results):
        part = sorted((r for r in results if r["arm"] == arm), key=lambda r: r["length"])
        ratios = [r["ratios"][FLOAT][1] for r in part]
        axes.plot([r["length"] for r in part], ratios, "o-", label=arm)
    axes.set_xscale("log", base=2)
    lengths = list(dict.fromkeys(r["length"] for r in results))
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set_xlabel("tokens")
    axes.set_ylabel(f"time / {FLOAT}")
    axes.set_ylim(bottom=0)

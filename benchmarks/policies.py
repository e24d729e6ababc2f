"""Exit policies compared on one trained checkpoint: accuracy against layers and against latency.

    make demo
    python benchmarks/policies.py build/demo --json policies.json --plot policies.svg

Every policy is exported from the checkpoint that the demo trained. For each, a grid of knob values
is run on the held-out texts; those that lose at most the allowed points there are taken to the test
texts. Latency is that of one text at a time, policies taking turns, against the uncut graph.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import AutoTokenizer, BertForSequenceClassification

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "samples"))

from arms import Arm, bundle_answer, uncut_answer, uncut_session
from choosing import Measured, choose
from data import Row, read_rows
from effbert.exporter import export
from effbert.exporter.quiet import quietly
from effbert.runtime import Session
from effbert.runtime.console.tables import print_table
from report import BATCH, encoded, measure

CONFIDENT = [round(float(1 - x), 5) for x in np.geomspace(0.6, 1e-3, 20)]
# Knob values from the latest exits to the earliest.
GRIDS: dict[str, list[dict[str, Any]]] = {
    "entropy": [{"threshold": round(float(x), 4)} for x in np.geomspace(0.01, 1.6, 20)],
    "confidence": [{"threshold": x} for x in reversed(CONFIDENT)],
    "margin": [{"threshold": x} for x in reversed(CONFIDENT)],
    "patience": [{"threshold": x} for x in (5, 4, 3, 2, 1)],
    "vote": [{"threshold": x} for x in (6, 5, 4, 3, 2, 1)],
    "elbert-entropy": [{"threshold": round(float(x), 4)} for x in np.geomspace(0.005, 0.9, 20)],
    "elbert-bias-2": [
        {"threshold": round(float(x), 4), "window": 3} for x in np.geomspace(0.005, 0.9, 20)
    ],
}
LOSSES = (0.0, 0.5, 2.0)
THREADS = 2


class Run(NamedTuple):
    """What knob values give on some texts."""

    knobs: dict[str, Any]
    accuracy: float
    layers: float


def run(session: Session, rows: Sequence[Row], knobs: dict[str, Any]) -> Run:
    """Answers all texts; accuracy in percent."""
    answers = session([text for text, _ in rows], knobs=knobs)
    right = np.mean([a.label == label for a, (_, label) in zip(answers, rows, strict=True)])
    return Run(knobs, 100 * float(right), float(np.mean([a.exit_layer for a in answers])))


def choose_knobs(full: Run, tried: Sequence[Run], loss: float) -> Run:
    """The earliest-exiting knob values before accuracy falls by more than `loss` points."""
    every = [full, *tried]
    measured = [Measured(place, each.accuracy, each.layers) for place, each in enumerate(every)]
    return every[int(choose(measured[0], measured[1:], loss).value)]


def uncut_arm(checkpoint: Path, example: dict[str, np.ndarray], folder: Path) -> Arm:
    """The full model as one graph, opened as onnxruntime does by default."""
    with quietly():
        model = BertForSequenceClassification.from_pretrained(checkpoint).eval()
        session = uncut_session(model, example, folder / "uncut.onnx", THREADS)
    layers = model.config.num_hidden_layers
    return Arm("onnxruntime, uncut graph", partial(uncut_answer, session, layers))


def compare(demo: Path, work: Path) -> dict[str, Any]:
    """Exports the checkpoint with every policy, chooses knob values, measures on the test texts."""
    heldout, test = read_rows(demo / "heldout.csv"), read_rows(demo / "test.csv")
    tokenizer = AutoTokenizer.from_pretrained(demo / "checkpoint")
    texts = [text for text, _ in test]
    singles, batches = encoded(tokenizer, texts, 1), encoded(tokenizer, texts, BATCH)
    labels = json.loads((demo / "checkpoint" / "config.json").read_text())["label2id"]
    competitors = [uncut_arm(demo / "checkpoint", singles[0], work)]
    curves, points = {}, {}
    for policy, grid in GRIDS.items():
        print(f"{policy}: exporting and trying {len(grid)} settings", flush=True)
        export(demo / "checkpoint", work / policy, policy=policy, force=True)
        session = Session(work / policy, threads=THREADS)
        full = run(session, heldout, {})
        tried = [run(session, heldout, knobs) for knobs in grid]
        curves[policy] = [run(session, test, knobs)[1:] for knobs in grid]
        for loss in LOSSES:
            name = f"{policy}, loss-{loss:g}"
            points[name] = choose_knobs(full, tried, loss).knobs
            competitors.append(Arm(name, partial(bundle_answer, session, points[name])))
    expected = np.array([labels[label] for _, label in test])
    results = measure(competitors, singles, batches, expected)
    for result in results:
        result["knobs"] = points.get(result["name"], {})
    return {"texts": len(test), "threads": THREADS, "results": results, "curves": curves}


def show(report: dict[str, Any]) -> None:
    """Prints the table; ratios are to the uncut graph."""
    uncut = report["results"][0]
    print_table(
        f"{report['texts']} test texts; settings chosen on held-out ones",
        ("policy", "knobs", "accuracy, %", "mean layer", "p50, ms", "ratio", "texts/s", "ratio"),
        [
            (
                result["name"],
                ", ".join(f"{name}={value:g}" for name, value in result["knobs"].items()) or "-",
                f"{result['accuracy']:.1f}",
                f"{result['mean_exit_layer']:.2f}",
                f"{result['p50_ms']:.2f}",
                f"{result['p50_ms'] / uncut['p50_ms']:.2f}",
                result["per_second"],
                f"{result['per_second'] / uncut['per_second']:.2f}",
            )
            for result in report["results"]
        ],
    )


def draw(report: dict[str, Any], path: Path) -> None:
    """Accuracy against mean exit layer, and against latency, one line a policy."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    from plot import STYLE

    colors = dict(zip(report["curves"], plt.get_cmap("tab10").colors, strict=False))
    with plt.rc_context({**STYLE, "figure.figsize": (10, 4)}):
        figure, (left, right) = plt.subplots(1, 2, sharey=True, layout="constrained")
        for policy, curve in report["curves"].items():
            accuracy, layers = zip(*sorted(curve, key=lambda point: point[1]), strict=True)
            left.plot(layers, accuracy, "-", color=colors[policy], linewidth=1.2, label=policy)
            mine = [r for r in report["results"] if r["name"].startswith(f"{policy}, ")]
            for axes, x in ((left, "mean_exit_layer"), (right, "p50_ms")):
                axes.plot(
                    [r[x] for r in mine], [r["accuracy"] for r in mine], "o", color=colors[policy]
                )
        uncut = report["results"][0]
        right.plot([uncut["p50_ms"]], [uncut["accuracy"]], "s", color="0.45")
        right.annotate(
            "uncut graph",
            (uncut["p50_ms"], uncut["accuracy"]),
            (-6, -14),
            textcoords="offset points",
            fontsize=8,
            color="0.45",
            ha="right",
        )
        left.set_ylabel(f"accuracy on {report['texts']} test texts, %")
        left.set_xlabel("mean exit layer")
        right.set_xlabel(f"median latency of one text, ms ({report['threads']} threads)")
        right.set_xlim(left=0)
        left.legend(fontsize=8, frameon=False, loc="lower right")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("demo", type=Path, help="folder that `make demo` filled")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--plot", type=Path, help="also draw them into this file")
    options = parser.parse_args()
    work = options.demo / "policies"
    work.mkdir(exist_ok=True)
    report = compare(options.demo, work)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.plot:
        draw(report, options.plot)
    show(report)


if __name__ == "__main__":
    main()

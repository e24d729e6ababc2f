"""What an export with verification costs, against torch.onnx.export of the model without exits.

    python benchmarks/export_cost.py --repeats 3 --json export_cost.json

Every measurement has a fresh process, which imports everything before the clock starts. The bare
export also loads its model before that, and saves as torch does by default. Peaks are the resident
memory of the whole process, libraries included.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints import Shape, add_arguments, make_checkpoint
from effbert.runtime.console.tables import print_table
from fresh import in_fresh_process, machine

TIME_LIMIT = 2.0  # times the bare export
PEAK_LIMIT = 1.0  # weights above the bare export's peak


def peak() -> float:
    """Most resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def import_everything() -> None:
    """Imports what an export needs; torch imports much of it with the first model it exports."""
    import torch
    from transformers import BertForSequenceClassification  # noqa: F401

    import effbert.exporter.pipeline  # noqa: F401
    from effbert.exporter.quiet import quietly

    with quietly():
        torch.onnx.export(torch.nn.Linear(1, 1), (torch.ones(1, 1),), dynamo=True, verbose=False)


def bare(checkpoint: Path, path: Path) -> dict[str, Any]:
    from uncut import export_uncut, load_uncut

    import_everything()
    model = load_uncut(checkpoint)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e6
    started, before = time.perf_counter(), time.process_time()
    export_uncut(model, path, external_data=True)
    return {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - before,
        "peak": peak(),
        "weights": weights,
    }


def whole(checkpoint: Path, bundle: Path) -> dict[str, Any]:
    from effbert.exporter import export

    import_everything()
    marks: list[tuple[str, float, float, float]] = []

    def mark(phase: str) -> None:
        marks.append((phase, time.perf_counter(), time.process_time(), peak()))

    started, before = time.perf_counter(), time.process_time()
    export(checkpoint, bundle, progress=mark)
    mark("end")
    return {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - before,
        "peak": peak(),
        "phases": [
            {
                "phase": phase,
                "seconds": end - start,
                "processor": busy - before,
                "peak": highest,
            }
            for (phase, start, before, _), (_, end, busy, highest) in pairwise(marks)
        ],
    }


def measure(checkpoint: Path, repeats: int) -> tuple[list[dict], list[dict]]:
    """Both exports in turns; what one writes is gone before the next starts."""
    folder = checkpoint.with_name("export_cost")
    runs: tuple[list[dict], list[dict]] = ([], [])
    for _ in range(repeats):
        for results, work in zip(runs, (bare, whole), strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            results.append(in_fresh_process(work, checkpoint, folder / "model.onnx"))
    shutil.rmtree(folder)
    return runs


def median(runs: Sequence[dict], key: str) -> float:
    return float(np.median([run[key] for run in runs]))


def show(bares: Sequence[dict], wholes: Sequence[dict]) -> None:
    weights = bares[0]["weights"]
    print_table(
        f"Medians of {len(bares)}; the weights are {weights:.0f} MB",
        ("", "seconds", "processor seconds", "peak, MB", "peak, weights"),
        [
            (
                name,
                f"{median(runs, 'seconds'):.2f}",
                f"{median(runs, 'processor'):.2f}",
                f"{median(runs, 'peak'):.0f}",
                f"{median(runs, 'peak') / weights:.2f}",
            )
            for name, runs in (("torch.onnx.export", bares), ("effbert export", wholes))
        ],
    )
    times = [b["seconds"] / a["seconds"] for a, b in zip(bares, wholes, strict=True)]
    more = (median(wholes, "peak") - median(bares, "peak")) / weights
    print_table(
        "Against the bare export",
        ("what", "measured", "must be <="),
        [
            ("time, ratio", f"{np.median(times):.2f}", f"{TIME_LIMIT:.2f}"),
            ("peak, weights more", f"{more:.2f}", f"{PEAK_LIMIT:.2f}"),
        ],
    )
    print_table(
        "Phases of the export",
        ("phase", "seconds", "processor seconds", "peak until its end, MB"),
        [
            (
                phases[0]["phase"],
                f"{median(phases, 'seconds'):.2f}",
                f"{median(phases, 'processor'):.2f}",
                f"{median(phases, 'peak'):.0f}",
            )
            for phases in zip(*(run["phases"] for run in wholes), strict=True)
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=3, help="exports of each kind (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    options = parser.parse_args()

    shape = Shape(options.layers, options.hidden, options.vocabulary)
    checkpoint = in_fresh_process(make_checkpoint, shape)
    bares, wholes = measure(checkpoint, options.repeats)
    show(bares, wholes)
    if options.json:
        report = machine() | {"shape": shape._asdict(), "bare": bares, "effbert": wholes}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

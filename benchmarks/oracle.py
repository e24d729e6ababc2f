"""The limit of early exit at batch 1: what knowing the exit of every text beforehand would bring.

    make demo
    python benchmarks/oracle.py build/demo --json oracle.json

An oracle answers each text with one graph of the layers that the chain takes for it, with one head
and without any decision, opened as onnxruntime does by default. What it falls short of its FLOPs is
what every call costs whatever its depth: the embeddings, operators on little data, the call itself.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from arms import Arm, Inputs
from baselines import open_onnxruntime, open_point
from chain import make_uncut
from effbert.runtime import Session
from effbert.runtime.bench.arms import all_points
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.console.tables import print_table
from effbert.runtime.points.costs import row_flops
from fresh import in_fresh_process, machine
from ideal import executions, uncut_flops
from subjects import Subject, demo_subject

UNCUT, THREADS, POINTS = "uncut", 2, ("loss-0", "loss-0.5", "loss-2")


def make_depth(checkpoint: Path, bundle: Path, layer: int) -> None:
    from effbert.exporter import export

    export(checkpoint, bundle, exits=[layer], force=True, verify=False)


def open_depth(threads: int, bundle: Path) -> Any:
    """The only segment of a bundle; what its knobs say about leaving does not matter."""
    answer = open_onnxruntime(threads, bundle / "segment-00.onnx")
    knobs = open_bundle(bundle).manifest.knobs
    fed = {knob.name: np.array(knob.default, knob.dtype) for knob in knobs}
    return lambda inputs: answer(inputs | fed)


def exits_taken(bundle: Path, knobs: dict[str, Any], calls: list[Inputs]) -> list[int]:
    """The place of the exit of each call of one row."""
    with Session(bundle) as session:
        return [int(session.run(inputs, knobs).exit_index[0]) for inputs in calls]


def medians(arms: dict[Any, Arm], calls: list[Inputs], rounds: int) -> dict[Any, np.ndarray]:
    """Milliseconds of each call, [calls]; the arms take turns."""
    times: dict[Any, list[list[float]]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            times[name].append(arm.measure(calls, 1).whole)
    return {name: 1000 * np.median(several, axis=0) for name, several in times.items()}


def make_graphs(checkpoint: Path, layers: list[int], work: Path) -> list[Path]:
    """Exports a bundle of one segment for each depth, and the uncut graph beside them."""
    work.mkdir(exist_ok=True)
    depths = [work / f"depth_{layer}" for layer in layers]
    for depth, layer in zip(depths, layers, strict=True):
        in_fresh_process(make_depth, checkpoint, depth, layer)
    if not (work / "uncut.onnx").exists():
        in_fresh_process(make_uncut, checkpoint, work / "uncut.onnx")
    return depths


def compare(subject: Subject, work: Path, rounds: int) -> list[dict[str, Any]]:
    """Measures the oracle, the chain and the uncut graph on the same texts."""
    bundle, (workload,) = subject.bundles["fp32"], subject.workloads
    manifest, calls = open_bundle(bundle).manifest, list(workload.calls)
    points = {name: all_points(manifest)[name] for name in POINTS}
    depths = make_graphs(subject.checkpoint, [item.layer for item in manifest.segments], work)
    arms = {place: Arm(partial(open_depth, THREADS), depth) for place, depth in enumerate(depths)}
    openers = {name: partial(open_point, THREADS, "onnxruntime", points[name]) for name in POINTS}
    arms |= {name: Arm(opener, bundle) for name, opener in openers.items()}
    arms |= {UNCUT: Arm(partial(open_onnxruntime, THREADS), work / "uncut.onnx")}
    typical = medians(arms, calls, rounds)
    for arm in arms.values():
        arm.close()
    lengths = np.array([inputs["input_ids"].shape[1] for inputs in calls])
    below = [row_flops(open_bundle(depth).manifest, None, lengths)[0] for depth in depths]
    done = in_fresh_process(executions, "onnxruntime", points, bundle, subject.workloads)
    whole, uncut = typical[UNCUT].sum(), uncut_flops(manifest, calls)

    def realised(time: float, flops: float) -> dict[str, float]:
        parts = {"time": time / whole, "flops": flops / uncut}
        return parts | {"realised": parts["flops"] / parts["time"]}

    results = []
    for name, knobs in points.items():
        places = list(enumerate(in_fresh_process(exits_taken, bundle, knobs, calls)))
        time = sum(typical[place][call] for call, place in places)
        oracle = realised(time, sum(below[place][call] for call, place in places))
        chain = realised(typical[name].sum(), done[workload.name, name].flops)
        results.append({"point": name, "oracle": oracle, "chain": chain})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="folder that `make demo` filled")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each arm (7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    arguments = parser.parse_args()
    subject = demo_subject(arguments.demo, [1])
    results = compare(subject, subject.folder, arguments.rounds)
    columns = ("point", "arm", "time / uncut", "FLOPs / uncut", "realised / ideal")
    print_table(
        "Texts one by one, float32, onnxruntime",
        columns,
        [
            (
                item["point"],
                arm,
                *(f"{item[arm][key]:.3f}" for key in ("time", "flops", "realised")),
            )
            for item in results
            for arm in ("oracle", "chain")
        ],
    )
    if arguments.json:
        report = {"machine": machine(), "threads": THREADS, "results": results}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

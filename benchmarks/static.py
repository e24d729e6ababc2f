"""Bundles against the strongest static engines, on the same inputs and threads.

    python benchmarks/static.py --json static.json
    python benchmarks/static.py --demo build/demo --batch 1,32 --markdown demo.md
    python benchmarks/static.py --demo build/demo --bundle bf16=build/bf16_bundle

Without --demo: BERT-base with random weights, token ids of fixed lengths and of a mix of lengths,
no row leaves early. With it: the model, texts and operating points of `make demo`, in the order of
the file, and accuracy. Both in float32 and int8.

The baselines are the model without exits in torch, onnxruntime (float32, int8 dynamic) and OpenVINO
(float32, bfloat16, int8 by NNCF). Every arm has a process of its own; the arms take turns, and
ratios compare turns of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arms import Arm, Inputs
from baselines import FLOAT, NNCF, TORCH, UNCUT, make_baselines, open_point
from checkpoints import Shape, add_arguments
from effbert.runtime.bench.arms import FULL, all_points, full_depth
from effbert.runtime.bench.workloads import LENGTHS, Workload
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.engines.table import installed_engines
from effbert.runtime.errors import EffbertError
from fresh import in_fresh_process, machine
from ideal import Execution, executions, uncut_flops
from static_markdown import markdown
from static_report import draw, show
from subjects import Subject, demo_subject, named_folder, random_subject

TRIALS, EQUALLY_FAST = 3, 1.03


class Point(NamedTuple):
    """A bundle, an engine and an operating point."""

    bundle: str
    engine: str
    point: str

    @property
    def arm(self) -> str:
        return ", ".join(self)


class Field:
    """Everything that is compared: baselines with their settings, bundles at their points."""

    def __init__(self, subject: Subject, bundles: dict[str, Path], threads: int) -> None:
        made = make_baselines(subject.checkpoint, subject.calibration, threads, subject.folder)
        self.baselines = {
            name: {setting: Arm(*how) for setting, how in settings.items()}
            for name, settings in made.items()
        }
        self.points: dict[Point, Arm] = {}
        self.uncut: dict[Point, str] = {}  # the baseline in the same precision on the same engine
        self.executed: dict[tuple[str, Point], Execution] = {}
        for name, bundle in bundles.items():
            manifest = open_bundle(bundle).manifest
            points = full_depth(manifest) if subject.expected is None else all_points(manifest)
            for engine in installed_engines():
                uncut = UNCUT.get((manifest.precision, engine))
                if uncut not in self.baselines:
                    uncut = UNCUT["fp32", engine]
                for point, knobs in points.items():
                    opener = partial(open_point, threads, engine, knobs)
                    self.points[Point(name, engine, point)] = Arm(opener, bundle)
                    self.uncut[Point(name, engine, point)] = uncut
                if subject.expected is not None:
                    found = in_fresh_process(executions, engine, points, bundle, subject.workloads)
                    for (workload, point), execution in found.items():
                        self.executed[workload, Point(name, engine, point)] = execution

    def close(self) -> None:
        for arms in (*self.baselines.values(), self.points):
            for arm in arms.values():
                arm.close()


def best_setting(
    settings: dict[str, Arm], calls: list[Inputs], passes: int, truth: np.ndarray
) -> str:
    """The fastest setting of a baseline; of those as fast, the one with the smallest error."""
    if len(settings) == 1:
        return next(iter(settings))
    errors = [np.abs(arm.answer(calls) - truth).mean() for arm in settings.values()]
    trials = [
        [sum(arm.measure(calls, passes).whole) for arm in settings.values()] for _ in range(TRIALS)
    ]
    typical = np.median(trials, axis=0)
    order = np.where(typical <= EQUALLY_FAST * typical.min(), errors, np.inf)
    return list(settings)[int(order.argmin())]


def compare(
    field: Field, workload: Workload, expected: np.ndarray | None, rounds: int, turn: float
) -> list[dict[str, Any]]:
    """Measures one workload; times are in milliseconds."""
    calls = workload.calls
    first = field.baselines[FLOAT][""]
    first.answer(calls)
    passes = max(1, round(turn / sum(first.measure(calls, 1).whole)))
    truth = field.baselines[TORCH][""].answer(calls)
    chosen = {
        name: best_setting(settings, calls, passes, truth)
        for name, settings in field.baselines.items()
    }
    arms = {name: field.baselines[name][setting] for name, setting in chosen.items()}
    arms |= {point.arm: arm for point, arm in field.points.items()}
    logits = {name: arm.answer(calls) for name, arm in arms.items()}
    times = {name: np.empty((rounds, passes, len(calls))) for name in arms}
    for turns in range(rounds):
        for name, arm in arms.items():
            times[name][turns].flat = arm.measure(calls, passes).whole
    results = []
    for name in arms:
        result = {
            "workload": workload.name,
            "batch": workload.batch,
            "length": workload.length,
            "arm": name,
            "setting": chosen.get(name, ""),
            **timing(times, name, workload.rows, field.baselines),
            "from_torch": float(np.abs(logits[name] - truth).max()),
        }
        if expected is not None:
            labels = logits[name].argmax(-1)
            result["accuracy"] = 100 * float((labels == expected).mean())
            result["agreement"] = 100 * float((labels == truth.argmax(-1)).mean())
        results.append(result)
    for point, result in zip(field.points, results[len(chosen) :], strict=True):
        result |= point._asdict() | {"uncut": field.uncut[point]}
    return results


def timing(
    times: dict[str, np.ndarray], name: str, rows: int, baselines: Collection[str]
) -> dict[str, Any]:
    """What the calls of an arm, seconds [rounds, passes, calls], say beside the baselines'."""
    mine = times[name]
    p50, p95, p99 = np.percentile(1000 * mine, (50, 95, 99)).round(3).tolist()
    typical = {arm: np.median(times[arm], axis=(1, 2)) for arm in (name, *baselines)}
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "pass_ms": round(1000 * float(np.median(mine, axis=(0, 1)).sum()), 3),
        "rows_per_second": round(rows / float(np.median(mine.sum(axis=2))), 1),
        "ratios": {
            other: np.quantile(typical[name] / typical[other], (0.25, 0.5, 0.75)).round(3).tolist()
            for other in baselines
        },
    }


def add_realised(
    results: Sequence[dict[str, Any]], field: Field, subject: Subject, workload: Workload
) -> None:
    """Adds how many rows left where, and the speed-up as a share of what FLOPs predict."""
    times = {result["arm"]: result["pass_ms"] for result in results}
    manifest = open_bundle(subject.bundles["fp32"]).manifest
    uncut = uncut_flops(manifest, workload.calls)
    for result in results:
        result["layers"] = manifest.segments[-1].layer
    for point in field.points:
        done = field.executed[workload.name, point]
        full = point._replace(point=FULL)
        against = {
            "realised": (field.uncut[point], uncut),
            "realised_exits": (full.arm, field.executed[workload.name, full].flops),
        }
        (result,) = (item for item in results if item["arm"] == point.arm)
        result |= done._asdict() | {"flops": done.flops / uncut}
        for name, (other, flops) in against.items():
            result[name] = round(times[other] / times[point.arm] * done.flops / flops, 3)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    lengths = ",".join(map(str, LENGTHS))
    add = parser.add_argument
    add("--demo", type=Path, help="folder that `make demo` filled")
    add(
        "--bundle",
        type=named_folder,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="measure this bundle of the same model too; can be repeated",
    )
    add("--batch", type=numbers, default=[1, 8, 32], help="rows (1,8,32)")
    add("--lengths", type=numbers, help=f"tokens ({lengths}, and a mix as sentences have them)")
    add("--threads", type=int, default=os.cpu_count(), help="of every arm (cores)")
    add("--rounds", type=int, default=7, help="turns of each arm (7)")
    add("--seconds", type=float, default=0.5, help="length of a turn (0.5)")
    add("--json", type=Path, metavar="FILE", help="write the numbers there")
    add("--plot", type=Path, metavar="FILE", help="draw the times there")
    add("--markdown", type=Path, metavar="FILE", help="write a table for a README there")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.demo:
        subject = demo_subject(options.demo, options.batch)
    else:
        shape = Shape(options.layers, options.hidden, options.vocabulary)
        subject = random_subject(shape, options.batch, options.lengths)
    field = Field(subject, subject.bundles | dict(options.bundle), options.threads)
    if NNCF not in field.baselines:
        print(f'No {NNCF}: get nncf with pip install -c constraints.txt -e ".[bench]"')
    results: list[dict[str, Any]] = []
    report = {**machine(), "threads": options.threads, "results": results}
    for workload in subject.workloads:
        found = compare(field, workload, subject.expected, options.rounds, options.seconds)
        if subject.expected is not None:
            add_realised(found, field, subject, workload)
        show(found)
        results += found
        if options.json:
            options.json.write_text(json.dumps(report, indent=2) + "\n")
    field.close()
    if options.plot:
        draw(results, options.plot)
    if options.markdown:
        options.markdown.write_text(markdown(report))


if __name__ == "__main__":
    try:
        main()
    except EffbertError as error:
        raise SystemExit(str(error)) from None

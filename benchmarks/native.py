"""The native library beside Python's session and the graph without exits, in turns.

    make native
    python benchmarks/native.py --json native.json
    python benchmarks/native.py --demo build/demo

Processor time of the process, for each call, and the median on the clock, of one row. The uncut
graph and the bundle run in the same program in C++. With `--demo`, the int8 bundle of `make demo`
too, at its operating point loss-0.5. Opening and resident memory are those of each process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chain import make_bundle, make_uncut
from checkpoints import Shape, make_checkpoint
from effbert.runtime import open_bundle
from effbert.runtime.console.tables import print_table
from effbert.runtime.engines.native.native_library import onnxruntime_library
from fresh import in_fresh_process, machine

PROGRAM = Path(__file__).resolve().parent.parent / "build/native/tests/bench_bundle"
TINY = Shape(12, 64, 1005)
LENGTH = 16  # tokens
LIMITS = {"12 segments, 2 threads": ("uncut", 1.2), "first exit, 1 thread": ("python", 0.6)}
PYTHON = """
import os, sys, time
import numpy as np
from effbert.runtime import Session
bundle, threads, length, *knob = sys.argv[1:]
begin = time.perf_counter()
session = Session(bundle, threads=int(threads))
opening = 1000 * (time.perf_counter() - begin)
inputs = {"input_ids": np.array([[5 + i * 7919 % 1000 for i in range(int(length))]])}
knobs = {knob[0]: float(knob[1])} if knob else None
session.run(inputs, knobs)
with open("/proc/self/statm") as file:
    print(opening, int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"), flush=True)
for line in sys.stdin:
    session.run(inputs, knobs)
    times, before = [], time.process_time()
    for _ in range(int(line)):
        begin = time.perf_counter()
        session.run(inputs, knobs)
        times.append(time.perf_counter() - begin)
    used = time.process_time() - before
    print(1000 * used / len(times), 1000 * sorted(times)[len(times) // 2], flush=True)
"""


class Case(NamedTuple):
    """What is run: a bundle at a knob, and the same model without exits if there is one."""

    name: str
    bundle: Path
    uncut: Path | None
    threads: int
    knob: tuple[str, str] | None


class Arm:
    """A process that measures on request."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.opening_ms, self.resident = self._line()

    def measure(self, calls: int) -> tuple[float, float]:
        """Milliseconds a call: of the processor, and the median on the clock."""
        assert self._process.stdin is not None
        print(calls, file=self._process.stdin, flush=True)
        return self._line()

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> tuple[float, float]:
        assert self._process.stdout is not None
        first, second = self._process.stdout.readline().split()
        return float(first), float(second)


def arms_of(case: Case) -> dict[str, Arm]:
    """The arms of a case, opened."""
    library, threads = str(onnxruntime_library()), str(case.threads)
    knob = list(case.knob or ())
    tail = [library, threads, str(LENGTH)]
    arms = {
        "native": Arm([str(PROGRAM), "bundle", str(case.bundle), *tail, *knob]),
        "python": Arm(
            [sys.executable, "-c", PYTHON, str(case.bundle), threads, str(LENGTH), *knob]
        ),
    }
    if case.uncut is not None:
        arms["uncut"] = Arm([str(PROGRAM), "graph", str(case.uncut), *tail])
    return arms


def measure(case: Case, rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """Arm -> its medians over the rounds, in which the arms take turns."""
    arms = arms_of(case)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            found[name].append(arm.measure(calls))
    for arm in arms.values():
        arm.close()
    return {
        name: {
            "cpu_ms": float(np.median([cpu for cpu, _ in values])),
            "p50_ms": float(np.median([p50 for _, p50 in values])),
            "opening_ms": arms[name].opening_ms,
            "resident_mb": arms[name].resident / 1e6,
        }
        for name, values in found.items()
    }


def cases(demo: Path | None) -> list[Case]:
    """What is measured; checkpoints, bundles and graphs are made if they are not there."""
    checkpoint = in_fresh_process(make_checkpoint, TINY)
    bundle, uncut = checkpoint.with_name("bundle"), checkpoint.with_name("uncut.onnx")
    if not bundle.is_dir():
        in_fresh_process(make_bundle, checkpoint, bundle)
        in_fresh_process(make_uncut, checkpoint, uncut)
    [knob] = open_bundle(bundle).manifest.knobs
    never, always = (knob.name, str(knob.never)), (knob.name, str(knob.maximum))
    found = [
        Case("12 segments, 1 thread", bundle, uncut, 1, never),
        Case("12 segments, 2 threads", bundle, uncut, 2, never),
        Case("first exit, 1 thread", bundle, None, 1, always),
        Case("first exit, 2 threads", bundle, None, 2, always),
    ]
    if demo is not None:
        int8 = demo / "int8_bundle"
        [point] = [p for p in open_bundle(int8).manifest.operating_points if p.name == "loss-0.5"]
        [(name, value)] = point.knobs.items()
        found += [
            Case(f"MiniLM int8 at loss-0.5, {threads} threads", int8, None, threads,
                 (name, str(value)))
            for threads in (1, 2)
        ]  # fmt: skip
    return found


def show(results: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print a table, and what is missed."""
    rows = [
        (case, name, *(f"{each[key]:.3f}" for key in ("cpu_ms", "p50_ms")),
         f"{each['opening_ms']:.0f}", f"{each['resident_mb']:.0f}")
        for case, arms in results.items()
        for name, each in arms.items()
    ]  # fmt: skip
    columns = ("case", "arm", "CPU, ms", "p50, ms", "opening, ms", "resident, MB")
    print_table("One row of 16 tokens", columns, rows)
    for case, (other, limit) in LIMITS.items():
        arms = results[case]
        for key in ("cpu_ms", "p50_ms"):
            ratio = arms["native"][key] / arms[other][key]
            verdict = "" if ratio <= limit else ": MISSED"
            print(f"{case}, {key}: {ratio:.2f} x {other}, at most {limit} is wanted{verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="turns of each arm (15)")
    parser.add_argument("--calls", type=int, default=200, help="calls of a turn (200)")
    parser.add_argument("--demo", type=Path, metavar="FOLDER", help="what `make demo` wrote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    options = parser.parse_args()
    if not PROGRAM.exists():
        parser.error("The native library is not built; build it with: make native.")
    results = {
        case.name: measure(case, options.rounds, options.calls) for case in cases(options.demo)
    }
    show(results)
    if options.json:
        options.json.write_text(json.dumps(machine() | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

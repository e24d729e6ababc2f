"""Try a bundle on the GPU of this machine: is it right, are rows independent, how fast is it?

    effbert-export CHECKPOINT bundle
    effbert-export CHECKPOINT uncut --exits 12      # the last layer alone: one engine, no cuts
    python samples/on_device.py bundle --uncut uncut --compute fp16

It compiles what is not compiled yet, replays the golden answers, measures how much a row's answer
depends on the rows beside it (which is kept beside the plans), and times calls at full depth. All
results come in one table at the end.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from effbert.runtime import Bundle, EffbertError, EffbertWarning, Session, open_bundle
from effbert.runtime.bench.arms import FULL, Arm, full_depth
from effbert.runtime.bench.timing import measure
from effbert.runtime.bench.workloads import random_workloads
from effbert.runtime.checks.replay import validate
from effbert.runtime.compile.compiling import CompileOptions, compile_bundle
from effbert.runtime.console.tables import print_table

BATCHES = (1, 8, 32)
LENGTHS = (32, 128)
ROUNDS = 15
Row = tuple[str, str]


def plans_of(bundle: Bundle, engine: str, compute: str, target: str | None) -> Path:
    """Compile a bundle into the user's cache; what is there is not compiled again."""

    def say(number: int, count: int, file: str) -> None:
        print(f"compiling {file}, {number + 1} of {count}", file=sys.stderr)

    targets = [] if target is None else [target]
    options = CompileOptions(engine=engine, compute=compute, targets=targets)
    return compile_bundle(bundle, options, say).folder


def own_target(engine: str) -> str | None:
    """What this machine's GPU is called, where the engine asks for it."""
    if engine != "tensorrt-rtx":
        return None
    from effbert.runtime.engines.plans.cuda import CudaDevice

    return CudaDevice().capability


def checked(bundle: Path, engine: str, plans: Path) -> Iterator[Row]:
    found = validate(bundle, engine=engine, where={"plans": plans})
    yield "golden rows", f"{found.rows} right, at most {found.max_abs_diff:.1e} off"
    yield "a row alone and in a batch", f"{found.rows_apart:.1e} apart at most"


def timed(
    bundles: dict[str, Bundle], engine: str, plans: dict[str, Path], lengths: Sequence[int]
) -> Iterator[Row]:
    """Time full depth with both bundles, taking turns."""
    with ExitStack() as stack:
        arms = []
        for name, bundle in bundles.items():
            session = Session(bundle, engine, dependent_rows=True, plans=plans[name])
            knobs = full_depth(bundle.manifest)[FULL]
            arms.append(Arm(name, FULL, stack.enter_context(session), knobs))
        for workload in random_workloads(bundles["chain"], [*BATCHES], tuple(lengths)):
            for item in measure(arms, workload, ROUNDS):
                spelled = f"{item.p50_ms:.2f} ms (p95 {item.p95_ms:.2f})"
                if item.engine != "chain":
                    spelled += f", {item.ratio:.2f} x the time of the chain"
                yield f"{item.workload} tokens, {item.engine}", spelled


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--uncut", type=Path, help="the same model with its last exit alone")
    parser.add_argument("--engine", choices=["tensorrt-rtx", "tensorrt"], default="tensorrt-rtx")
    parser.add_argument("--compute", choices=["fp32", "fp16", "bf16"], default="fp16")
    parser.add_argument("--plans", type=Path, help="plans of the bundle that are there already")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="tokens a row")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", EffbertWarning)  # of rows that are measured here
    lengths = [int(length) for length in asked.lengths.split(",")]
    paths = {"chain": asked.bundle} | ({"uncut": asked.uncut} if asked.uncut else {})
    try:
        bundles = {name: open_bundle(path) for name, path in paths.items()}
        target = own_target(asked.engine)
        given = {"chain": asked.plans} if asked.plans else {}
        plans = {
            name: given.get(name) or plans_of(bundle, asked.engine, asked.compute, target)
            for name, bundle in bundles.items()
        }
        longest = min(bundle.manifest.limits.max_length for bundle in bundles.values())
        rows = [
            ("engine", f"{asked.engine}, {target or 'this GPU'}"),
            *checked(asked.bundle, asked.engine, plans["chain"]),
            *timed(bundles, asked.engine, plans, [n for n in lengths if n <= longest] or [longest]),
        ]
    except EffbertError as error:
        raise SystemExit(f"{error}") from error
    print_table(f"{asked.bundle} on this device", ("what", "result"), rows)


if __name__ == "__main__":
    main()

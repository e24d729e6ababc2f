"""How long plans of TensorRT-RTX take to build, and the most memory of a child process.

    python benchmarks/compile_cost.py --precision fp32,int8 --compute fp16 --json compile_cost.json

Builds for SM80, SM86, SM89 and SM120 in one plan a segment. Nothing is executed: no GPU is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from checkpoints import Shape, add_arguments, make_checkpoint
from effbert.runtime import open_bundle
from effbert.runtime.compile.compiling import CompileOptions, compile_bundle
from effbert.runtime.compile.profiles import read_profile
from effbert.runtime.console.tables import print_table
from fresh import in_fresh_process, machine

TIME_LIMIT, PEAK_LIMIT = 120.0, 1000.0  # seconds in all, MB of a child


def export_bundle(checkpoint: Path, bundle: Path, precision: str) -> None:
    from effbert.exporter import export

    export(checkpoint, bundle, precision=precision, verify=precision != "fp32", min_agreement=0)


def measure(bundle: Path, compute: str, profiles: list[str]) -> dict[str, Any]:
    opened = open_bundle(bundle)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder  # hashes of plans that are gone are of no use
        chosen = [read_profile(text) for text in profiles]
        begin = time.monotonic()
        compiled = compile_bundle(
            opened, CompileOptions(compute=compute, profiles=chosen, output=Path(folder) / "plans")
        )
        seconds = time.monotonic() - begin
    return {
        "bundle": bundle.name,
        "compute": compute,
        "profiles": len(chosen) or 1,
        "segments": len(compiled.built),
        "seconds": seconds,
        "slowest": max(built.seconds for built in compiled.built),
        "megabytes": sum(built.size for built in compiled.built) / 1e6,
        "peak": max(built.peak for built in compiled.built) / 1e6,
    }


def show(results: list[dict[str, Any]]) -> None:
    columns = ("bundle", "compute", "profiles", "plans", "seconds", "slowest", "MB", "peak, MB")
    rows = [
        (
            each["bundle"],
            each["compute"],
            each["profiles"],
            each["segments"],
            f"{each['seconds']:.1f}",
            f"{each['slowest']:.1f}",
            f"{each['megabytes']:.0f}",
            f"{each['peak']:.0f}",
        )
        for each in results
    ]
    print_table(f"Must be <= {TIME_LIMIT:.0f} s and {PEAK_LIMIT:.0f} MB", columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    add_arguments(parser)
    parser.add_argument("--bundle", type=Path, action="append", help="instead of a random model")
    parser.add_argument("--precision", default="fp32,int8", help="of the bundles (fp32,int8)")
    parser.add_argument("--compute", default="fp16", help="of the plans (fp16)")
    parser.add_argument("--profile", action="append", default=[], help="as effbert compile has it")
    parser.add_argument("--json", type=Path, help="write the numbers into this file")
    options = parser.parse_args()
    bundles = options.bundle or []
    if not bundles:
        shape = Shape(options.layers, options.hidden, options.vocabulary)
        checkpoint = make_checkpoint(shape)
        for precision in options.precision.split(","):
            bundle = checkpoint.with_name(f"compiled-{precision}")
            if not bundle.exists():
                in_fresh_process(export_bundle, checkpoint, bundle, precision)
            bundles.append(bundle)
    results = [
        measure(bundle, compute, options.profile)
        for bundle in bundles
        for compute in options.compute.split(",")
    ]
    show(results)
    if options.json is not None:
        options.json.write_text(json.dumps({**machine(), "results": results}, indent=2))


if __name__ == "__main__":
    main()

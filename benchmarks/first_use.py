"""What it takes until something can be answered: imports, commands, opening a bundle.

    python benchmarks/first_use.py --json first_use.json
    python benchmarks/first_use.py --bundle fp32=build/demo/exits_bundle

Processor time of the quickest of several tries, each in a fresh process: what it takes where
nothing else runs. For bundles also the time on the clock, and the resident memory of the open
session above that of the imports, over the size of its segments.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from chain import make_bundle
from checkpoints import Shape, add_arguments, make_checkpoint
from effbert.runtime.console.tables import print_table
from effbert.runtime.engines.table import installed_engines
from fresh import in_fresh_process, machine
from subjects import named_folder

OPEN = "import sys; from effbert.runtime import Session; Session(sys.argv[1])"
LIMITS = {"import effbert.runtime": 0.3, "effbert-export --help": 0.5}
LOAD = """
import json, os, sys, time
from importlib import import_module
from effbert.runtime import Session
from effbert.runtime.engines.table import ENGINES

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

bundle, engine = sys.argv[1:]
import_module(ENGINES[engine].library)
before, started = resident(), time.perf_counter()
session = Session(bundle, engine)
opened, held = time.perf_counter() - started, resident() - before
session.run({"input_ids": [[1, 2, 3]]})
answered = resident() - before
files = session.bundle.manifest.files
weights = sum(file.size for name, file in files.items() if name.endswith((".onnx", ".bin")))
print(json.dumps({"seconds": opened, "open": held / weights, "answered": answered / weights}))
"""


def seconds(command: list[str], tries: int) -> float:
    """Processor seconds of the quickest try."""
    times = []
    for _ in range(tries):
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))
    return min(times)


def loading(bundle: Path, engine: str, tries: int) -> dict[str, float]:
    """Seconds of the quickest try; the largest share of memory, Linux only."""
    command = [sys.executable, "-c", LOAD, str(bundle), engine]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for _ in range(tries)
    ]
    return {
        "seconds": min(item["seconds"] for item in found),
        **{name: max(item[name] for item in found) for name in ("open", "answered")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--tries", type=int, default=5, help="processes of each kind (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    parser.add_argument(
        "--bundle",
        type=named_folder,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="open this bundle too; can be repeated",
    )
    options = parser.parse_args()

    shape = Shape(options.layers, options.hidden, options.vocabulary)
    checkpoint = in_fresh_process(make_checkpoint, shape)
    bundle = checkpoint.with_name("bundle")
    in_fresh_process(make_bundle, checkpoint, bundle)
    python, command = sys.executable, str(Path(sys.executable).with_name("effbert-export"))
    commands = {
        "python": [python, "-c", ""],
        "import effbert.runtime": [python, "-c", "import effbert.runtime"],
        "effbert-export --help": [command, "--help"],
        f"open {shape.name}": [python, "-c", OPEN, str(bundle)],
    }
    times = {name: seconds(arguments, options.tries) for name, arguments in commands.items()}
    print_table(
        f"Processor seconds, quickest of {options.tries}",
        ("what", "seconds", "must be <"),
        [(name, f"{time:.2f}", LIMITS.get(name, "")) for name, time in times.items()],
    )
    opened = {
        f"{name}, {engine}": loading(folder, engine, options.tries)
        for name, folder in [(shape.name, bundle), *options.bundle]
        for engine in installed_engines()
    }
    print_table(
        "Opening a bundle: seconds, and resident memory over the size of the segments",
        ("what", "seconds", "opened", "after an answer"),
        [
            (name, *(f"{found[key]:.2f}" for key in ("seconds", "open", "answered")))
            for name, found in opened.items()
        ],
    )
    if options.json:
        report = machine() | {"seconds": times, "opened": opened}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

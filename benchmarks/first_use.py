"""How long it takes until something can be answered: imports, commands, opening a bundle.

    python benchmarks/first_use.py --json first_use.json

Processor time of the quickest of several tries, each in a fresh process: what it takes where
nothing else runs.
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
from effbert.runtime.cli_output import print_table
from fresh import in_fresh_process, machine

OPEN = "import sys; from effbert.runtime import Session; Session(sys.argv[1])"
LIMITS = {"import effbert.runtime": 0.3, "effbert-export --help": 0.5}


def seconds(command: list[str], tries: int) -> float:
    """Processor seconds of the quickest try."""
    times = []
    for _ in range(tries):
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--tries", type=int, default=5, help="processes of each kind (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
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
    if options.json:
        options.json.write_text(json.dumps(machine() | {"seconds": times}, indent=2) + "\n")


if __name__ == "__main__":
    main()

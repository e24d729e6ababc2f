"""Compare bundles with the full model they came from: accuracy, exit layers, latency, throughput.

    python samples/report.py CHECKPOINT test.csv OUTPUT BUNDLE [BUNDLE ...]

The full model runs in torch and as one uncut graph in onnxruntime with default settings. The
bundles run with no knob used, at their operating points, and at a range of knob values for the
plot. With --truncate the uncut graph also runs on texts that are cut off, as far as the held-out
texts allow. All use the same number of threads and take turns. Writes report.json and table.md
into OUTPUT.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from arms import LOSSES, Arm, bundle_arms, full_arms, truncated_arms
from data import Row, read_rows
from effbert.runtime.errors import EffbertError
from truncate import Inputs, choose_shares

ROUNDS = 3
BATCH = 32
WARM_UP = 5  # calls
EVERY = 2  # all texts are answered, every second one is timed
PAUSE = 0.1  # seconds between two arms: idle threads of the one before stop spinning


def timed(arm: Arm, batches: Sequence[Inputs]) -> list[float]:
    """Milliseconds for each batch, after a warm-up."""
    time.sleep(PAUSE)
    for inputs in batches[:WARM_UP]:
        arm.answer(inputs)
    clock = [time.perf_counter()]
    for inputs in batches:
        arm.answer(inputs)
        clock.append(time.perf_counter())
    return (1000 * np.diff(clock)).tolist()


def measure(
    competitors: Sequence[Arm], singles: list[Inputs], batches: list[Inputs], expected: np.ndarray
) -> list[dict]:
    """Each arm in turn, ROUNDS times; a text's latency is its median over the rounds."""
    timed_rows = sum(len(inputs["input_ids"]) for inputs in batches[::EVERY])
    alone: dict[str, list[list[float]]] = {arm.name: [] for arm in competitors}
    batched: dict[str, list[float]] = {arm.name: [] for arm in competitors}
    for round_ in range(ROUNDS):
        print(f"round {round_ + 1} of {ROUNDS}", flush=True)
        for arm in competitors:
            alone[arm.name].append(timed(arm, singles[::EVERY]))
            batched[arm.name].append(sum(timed(arm, batches[::EVERY])))
    results = []
    for arm in competitors:
        answers = [arm.answer(inputs) for inputs in batches]
        logits, layers = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        latency = np.median(alone[arm.name], axis=0)
        results.append(
            {
                "name": arm.name,
                "kind": arm.kind,
                "in_table": arm.in_table,
                "accuracy": round(100 * float((logits.argmax(-1) == expected).mean()), 2),
                "mean_exit_layer": round(float(layers.mean()), 3),
                "p50_ms": round(float(np.percentile(latency, 50)), 3),
                "p95_ms": round(float(np.percentile(latency, 95)), 3),
                "per_second": round(1000 * timed_rows / float(np.median(batched[arm.name]))),
            }
        )
    return results


def encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], size: int) -> list[Inputs]:
    """The texts as batches of `size` rows, in their order."""
    return [
        dict(
            tokenizer(
                list(texts[start : start + size]),
                padding=True,
                truncation=True,
                return_token_type_ids=True,
                return_tensors="np",
            )
        )
        for start in range(0, len(texts), size)
    ]


def numbered(rows: Sequence[Row], labels: Mapping[str, int]) -> np.ndarray:
    """The labels as the model numbers them, int64 [texts]."""
    return np.array([labels[label] for _, label in rows])


def table(results: Sequence[dict], uncut: dict) -> str:
    """The results as a Markdown table; ratios are to the uncut graph in onnxruntime."""
    columns = ("", "accuracy, %", "mean exit layer", "p50, ms", "p95, ms", "p50, ratio")
    columns += (f"texts/s at batch {BATCH}", "ratio")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [
        f"| {r['name']} | {r['accuracy']:.1f} | {r['mean_exit_layer']:.2f} | {r['p50_ms']:.2f} "
        f"| {r['p95_ms']:.2f} | {r['p50_ms'] / uncut['p50_ms']:.2f} "
        f"| {r['per_second']} | {r['per_second'] / uncut['per_second']:.2f} |"
        for r in results
        if r["in_table"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("checkpoint", type=Path, help="what train_exits.py wrote")
    parser.add_argument("test", type=Path, help="CSV file with the columns text and label")
    parser.add_argument("output", type=Path, help="folder for report.json and table.md")
    parser.add_argument("bundles", type=Path, nargs="+", metavar="bundle")
    parser.add_argument(
        "--truncate", type=Path, metavar="HELDOUT", help="also cut texts off, as far as these allow"
    )
    options = parser.parse_args()

    options.output.mkdir(parents=True, exist_ok=True)
    rows = read_rows(options.test)
    tokenizer = AutoTokenizer.from_pretrained(options.checkpoint)
    labels = json.loads((options.checkpoint / "config.json").read_text())["label2id"]
    texts = [text for text, _ in rows]
    singles, batches = (encoded(tokenizer, texts, size) for size in (1, BATCH))
    threads = torch.get_num_threads()
    competitors = [*full_arms(options.checkpoint, singles[0], options.output, threads)]
    if options.truncate:
        uncut, heldout = competitors[-1].answer, read_rows(options.truncate)
        tuning = encoded(tokenizer, [text for text, _ in heldout], BATCH)
        shares = choose_shares(uncut, tuning, numbered(heldout, labels), LOSSES)
        competitors += truncated_arms(uncut, shares)
    for bundle in options.bundles:
        competitors += bundle_arms(bundle, threads)
    results = measure(competitors, singles, batches, numbered(rows, labels))
    report = {
        "texts": len(rows),
        "threads": threads,
        "machine": platform.machine(),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "results": results,
    }
    (options.output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (options.output / "table.md").write_text(table(results, results[1]))


if __name__ == "__main__":
    try:
        main()
    except EffbertError as error:
        raise SystemExit(str(error)) from None

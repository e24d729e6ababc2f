"""What cutting a model into a chain of segments costs when every row goes to the last exit.

    python benchmarks/chain.py --rounds 15 --json chain.json

Three arms answer the same token ids, each in a process of its own that stays alive:

  chain     the bundle through effbert's Session, an exit after every layer, none fires
  uncut     the same backbone and main head as one graph, opened with effbert's session options
  defaults  the same graph as onnxruntime opens it by default

The arms take turns, so that a slow spell of the machine hits all of them. A ratio compares the
blocks of one round; the median over the rounds is shown, with the quartiles in the JSON file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arms import Arm, Block, Inputs, open_chain, open_defaults, open_uncut
from checkpoints import Shape, add_arguments, make_checkpoint
from effbert.runtime.console.tables import print_table
from fresh import in_fresh_process, machine

TOLERANCE = 1e-4
LIMITS = {1: 1.05, 8: 1.02}  # by batch: chain against uncut
LENGTHS = (32, 128)


def make_bundle(checkpoint: Path, bundle: Path, precision: str = "fp32") -> None:
    from effbert.exporter import export

    # With random weights the best label wins by chance: int8 agrees on fewer than trained ones do.
    export(checkpoint, bundle, precision=precision, min_agreement=0, force=True)


def make_uncut(checkpoint: Path, path: Path) -> None:
    from uncut import export_uncut, load_uncut

    export_uncut(load_uncut(checkpoint), path, external_data=False)


def compare(arms: dict[str, Arm], inputs: Inputs, rounds: int, seconds: float) -> dict:
    """Measures the arms in turns on one shape of inputs; times are in milliseconds."""
    logits = {name: arm.answer([inputs]) for name, arm in arms.items()}
    worst = max(np.abs(found - logits["uncut"]).max() for found in logits.values())
    if not worst <= TOLERANCE:
        raise SystemExit(f"The arms do not answer alike: logits differ by {worst}.")
    calls = max(2, round(seconds / np.median(arms["uncut"].measure([inputs], 3).whole)))
    blocks: dict[str, list[Block]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            blocks[name].append(arm.measure([inputs], calls))
    typical = {n: np.array([np.median(b.whole) for b in blocks[n]]) for n in arms}
    outside = [np.median(np.subtract(b.whole, b.inside)) for b in blocks["chain"]]
    rows, length = inputs["input_ids"].shape
    return {
        "batch": rows,
        "length": length,
        "calls": calls * rounds,
        "ms": {n: quartiles([1000 * s for b in blocks[n] for s in b.whole]) for n in arms},
        "ratios": {n: quartiles(typical["chain"] / typical[n]) for n in arms if n != "chain"},
        "outside_us": float(1e6 * np.median(outside)),
        "added_us": float(1e6 * np.median(typical["chain"] - typical["uncut"])),
    }


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))]


def random_inputs(shape: Shape, rows: int, length: int) -> Inputs:
    ids = np.random.default_rng(0).integers(5, shape.vocabulary, (rows, length))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }


def show(results: Sequence[dict], layers: int) -> None:
    names = list(results[0]["ms"])
    print_table(
        "Milliseconds a call: median (quartiles)",
        ("batch x length", *names, "chain / uncut", "must be <=", "chain / defaults"),
        [
            (
                f"{r['batch']} x {r['length']}",
                *("{1:.2f} ({0:.2f}-{2:.2f})".format(*r["ms"][name]) for name in names),
                f"{r['ratios']['uncut'][1]:.3f}",
                f"{LIMITS[r['batch']]:.2f}",
                f"{r['ratios']['defaults'][1]:.3f}",
            )
            for r in results
        ],
    )
    print_table(
        "Microseconds a segment that the chain takes longer",
        ("batch x length", "than its segments' own run", "than the uncut graph, heads included"),
        [
            (
                f"{r['batch']} x {r['length']}",
                f"{r['outside_us'] / layers:.1f}",
                f"{r['added_us'] / layers:.1f}",
            )
            for r in results
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each arm (15)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn (0.5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    options = parser.parse_args()

    shape = Shape(options.layers, options.hidden, options.vocabulary)
    checkpoint = in_fresh_process(make_checkpoint, shape)
    bundle, uncut = checkpoint.with_name("bundle"), checkpoint.with_name("uncut.onnx")
    in_fresh_process(make_bundle, checkpoint, bundle)
    in_fresh_process(make_uncut, checkpoint, uncut)
    arms = {
        "chain": Arm(open_chain, bundle),
        "uncut": Arm(open_uncut, uncut),
        "defaults": Arm(open_defaults, uncut),
    }
    results = [
        compare(arms, random_inputs(shape, batch, length), options.rounds, options.seconds)
        for batch in LIMITS
        for length in LENGTHS
    ]
    for arm in arms.values():
        arm.close()
    show(results, shape.layers)
    if options.json:
        report = machine() | {"shape": shape._asdict(), "results": results}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

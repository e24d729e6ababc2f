"""What the ability to drop tokens costs at full length, and what dropping them saves.

    python benchmarks/lengths.py --batch 8 --length 128 --json lengths.json

Arms, each in a process of its own, taking turns on the same token ids:

  plain    a bundle without the knob `lengths`, every row to the last exit
  full     the same checkpoint exported length-adaptive, nothing dropped
  dropped  that bundle with a fifth of the tokens dropped in every layer: 0.35 x the FLOPs
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np

from arms import Answer, Arm, Block
from chain import make_bundle, quartiles, random_inputs
from checkpoints import Shape, add_arguments, make_checkpoint
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.console.tables import print_table
from effbert.runtime.points.costs import row_flops, tokens_kept
from effbert.runtime.points.genes import STEEPEST, falling_lengths
from fresh import in_fresh_process

LIMITS = {"full": 1.03, "dropped": 0.45}


def make_adaptive(checkpoint: Path, bundle: Path) -> None:
    from effbert.exporter import export

    export(checkpoint, bundle, length_adaptive=True, force=True)


def open_with(lengths: list[int] | None, bundle: Path) -> Answer:
    from effbert.runtime import Session

    session = Session(bundle)
    knobs = None if lengths is None else {"lengths": lengths}
    return lambda inputs: session.run(inputs, knobs).logits


def flops_ratio(bundle: Path, length: int, lengths: list[int]) -> float:
    """FLOPs of a row with dropped tokens, over those without."""
    manifest, tokens = open_bundle(bundle).manifest, np.array([length])
    kept = tokens_kept(tokens, np.array(lengths))
    shortened = row_flops(manifest, kept, tokens)[-1, 0]
    return float(shortened / row_flops(manifest, None, tokens)[-1, 0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--batch", type=int, default=8, help="rows (8)")
    parser.add_argument("--length", type=int, default=128, help="tokens a row (128)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each arm (15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    options = parser.parse_args()
    shape = Shape(options.layers, options.hidden, options.vocabulary)
    checkpoint = in_fresh_process(make_checkpoint, shape)
    plain, adaptive = checkpoint.with_name("bundle"), checkpoint.with_name("adaptive")
    in_fresh_process(make_bundle, checkpoint, plain)
    in_fresh_process(make_adaptive, checkpoint, adaptive)
    lengths = [*falling_lengths(STEEPEST, shape.layers, options.length)]
    arms = {
        "plain": Arm(partial(open_with, None), plain),
        "full": Arm(partial(open_with, None), adaptive),
        "dropped": Arm(partial(open_with, lengths), adaptive),
    }
    inputs = random_inputs(shape, options.batch, options.length)
    blocks: dict[str, list[Block]] = {name: [] for name in arms}
    for round_ in range(options.rounds + 1):
        for name, arm in arms.items():
            block = arm.measure([inputs], 3)
            blocks[name] += [block] if round_ else []  # the first round warms up
    typical = {name: np.array([np.median(b.whole) for b in blocks[name]]) for name in arms}
    ratios = {
        "full": quartiles(typical["full"] / typical["plain"]),
        "dropped": quartiles(typical["dropped"] / typical["full"]),
    }
    for arm in arms.values():
        arm.close()
    work = flops_ratio(adaptive, options.length, lengths)
    print_table(
        f"{options.batch} x {options.length}, lengths {lengths}: {work:.2f} x the FLOPs",
        ("arm", "ms: median (quartiles)", "against", "ratio", "must be <="),
        [
            (
                name,
                "{1:.1f} ({0:.1f}-{2:.1f})".format(*quartiles((1000 * typical[name]).tolist())),
                {"full": "plain", "dropped": "full"}.get(name, ""),
                f"{ratios[name][1]:.3f}" if name in ratios else "",
                f"{LIMITS[name]:.2f}" if name in ratios else "",
            )
            for name in arms
        ],
    )
    if options.json:
        found = {"ratios": ratios, "flops": work, "lengths": lengths}
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

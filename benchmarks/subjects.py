"""What is measured: a checkpoint and its bundles, and the inputs that they answer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from arms import Inputs
from chain import make_bundle, random_inputs
from checkpoints import Shape, make_checkpoint
from effbert.runtime.bench.workloads import LENGTHS, Workload, random_workloads, text_workloads
from effbert.runtime.bundle.folder import open_bundle
from effbert.runtime.texts.files import read_labelled
from fresh import in_fresh_process

CALIBRATION = {"random": 64, "texts": 300}  # rows; the second is what NNCF takes by default


class Subject(NamedTuple):
    """A model and its inputs.

    Attributes:
        checkpoint: What the bundles were exported from.
        bundles: By name; the first is in float32.
        workloads: Measured one after the other.
        calibration: Rows for quantization, one to a call; none of them is measured.
        expected: int64 [rows], the right label of each row of every workload, if there is one.
    """

    checkpoint: Path
    bundles: dict[str, Path]
    workloads: list[Workload]
    calibration: list[Inputs]
    expected: np.ndarray | None

    @property
    def folder(self) -> Path:
        """Where the models of the baselines are kept."""
        return self.checkpoint.with_name(f"{self.checkpoint.name}_static")


def random_subject(shape: Shape, batches: Sequence[int], lengths: Sequence[int] | None) -> Subject:
    """Random weights and token ids; no row leaves early."""
    checkpoint = in_fresh_process(make_checkpoint, shape)
    bundles = {"fp32": checkpoint.with_name("bundle"), "int8": checkpoint.with_name("int8_bundle")}
    for precision, bundle in bundles.items():
        in_fresh_process(make_bundle, checkpoint, bundle, precision)
    workloads = random_workloads(open_bundle(bundles["fp32"]), batches, lengths)
    rows = random_inputs(shape, CALIBRATION["random"], max(lengths or LENGTHS))
    calibration = [
        {name: value[row : row + 1] for name, value in rows.items()}
        for row in range(CALIBRATION["random"])
    ]
    return Subject(checkpoint, bundles, workloads, calibration, None)


def demo_subject(demo: Path, batches: Sequence[int]) -> Subject:
    """The model and the texts of `make demo`, in the order of the file."""
    bundles = {"fp32": demo / "exits_bundle", "int8": demo / "int8_bundle"}
    for bundle in bundles.values():
        if not bundle.is_dir():
            raise SystemExit(f"{bundle} is not there; run `make demo` first.")
    opened = open_bundle(bundles["fp32"])
    (training,) = text_workloads(opened, [1], demo / "train.csv")
    return Subject(
        demo / opened.manifest.source.name,
        bundles,
        text_workloads(opened, batches, demo / "test.csv"),
        training.calls[: CALIBRATION["texts"]],
        np.array(read_labelled(demo / "test.csv", opened.manifest.labels).labels),
    )


def named_folder(text: str) -> tuple[str, Path]:
    """The parts of NAME=FOLDER, for the command line."""
    name, _, folder = text.partition("=")
    if not (name and (Path(folder) / "effbert.json").is_file()):
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=FOLDER, the folder of a bundle")
    return name, Path(folder)

"""A system's checkpoint with its bundle, and what its tests have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click.testing import CliRunner

from effbert.exporter.commands.export import export_command
from effbert.runtime import Session
from effbert.runtime.commands import effbert
from exit_checks import batch
from vocabularies import random_rows

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Exported:
    """A checkpoint, its bundle, what the command said, and the loop that both are judged by."""

    checkpoint: Path
    bundle: Path
    said: str
    reference: Any
    vocabulary: str = "bert"

    @cached_property
    def session(self) -> Session:
        return Session(self.bundle, threads=1)

    @cached_property
    def rows(self) -> list[list[int]]:
        return list(random_rows(self.vocabulary, 200))

    @cached_property
    def signals(self) -> np.ndarray:
        """The signals of all rows at all exits, [rows, exits]."""
        return np.array([self.reference.signals(row) for row in self.rows])

    def quantiles(self, q: float) -> list[float]:
        """The value below which a share `q` of the signals falls, for each exit."""
        return np.quantile(self.signals, q, axis=0).tolist()

    def quantile(self, q: float) -> float:
        """The value below which a share `q` of the signals of all exits falls."""
        return float(np.quantile(self.signals, q))


def export_new(
    folder: Path,
    write: Callable[..., Path],
    reference: Callable[[Path], Any],
    vocabulary: str = "bert",
    arguments: Sequence[str] = (),
    **options: Any,
) -> Exported:
    """Write a checkpoint with these options; `effbert-export CHECKPOINT BUNDLE ARGUMENTS` it."""
    checkpoint, bundle = write(folder / "checkpoint", **options), folder / "bundle"
    result = CliRunner().invoke(export_command, [str(checkpoint), str(bundle), *arguments])
    assert result.exit_code == 0, result.output
    return Exported(checkpoint, bundle, result.output, reference(checkpoint), vocabulary)


def refused(path: Path, *options: str) -> str:
    """What `effbert-export` says of a user's mistake, in one line and without leaving a bundle."""
    bundle = path.parent / "bundle"
    result = CliRunner().invoke(export_command, [str(path), str(bundle), *options])
    assert result.exit_code == 2, result.output
    assert not bundle.exists()
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def inspect(bundle: Path) -> dict[str, Any]:
    """What `effbert inspect BUNDLE --json` says."""
    result = CliRunner().invoke(effbert, ["inspect", str(bundle), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def without(*names: str) -> Callable[[Tensors], Tensors]:
    """A change that drops tensors by name."""
    return lambda tensors: {k: t for k, t in tensors.items() if k not in names}


def exit_layer_at(model: Exported, threshold: float, rest: float) -> int:
    """Where the first row leaves if the first exit has this threshold and the others `rest`."""
    thresholds = [threshold] + [rest] * (len(model.session.exits) - 1)
    result = model.session.run(batch(model.rows[:1]), {"threshold": thresholds})
    return int(result.exit_layer[0])

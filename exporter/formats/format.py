"""What a checkpoint format is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from effbert.exporter.models.load_options import LoadOptions

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.encoders.length_adaptive import LengthOptions
    from effbert.exporter.models.exit_model import ExitModel

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, Any]


def as_asked(checkpoint: Checkpoint, asked: LengthOptions | None) -> LengthOptions | None:
    """Drop tokens as the user wants: most checkpoints know nothing about that."""
    del checkpoint
    return asked


@dataclass(frozen=True)
class Format:
    """A checkpoint family. `detect` looks at tensor shapes and config only; `load` builds it.

    `skips_layers` says that `load` can leave layers of the encoder out, `last_highway` that there
    is a highway after the last layer, to be consulted or not. `lengths` turns what the user asks
    about dropped tokens into what the checkpoint was trained for.
    """

    name: str
    paper: str
    detect: Callable[[Shapes, Config], bool]
    load: Callable[[Checkpoint, LoadOptions], ExitModel]
    policies: tuple[str, ...]
    skips_layers: bool = False
    last_highway: bool = False
    lengths: Callable[[Checkpoint, LengthOptions | None], LengthOptions | None] = as_asked

"""What a checkpoint format is, and the options that loading one takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from effbert.runtime.errors import ExportError

if TYPE_CHECKING:
    from effbert.exporter.checkpoint import Checkpoint
    from effbert.exporter.length_adaptive import LengthOptions
    from effbert.exporter.model import ExitModel

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class LoadOptions:
    """What the user may fix.

    The task and the exit policy by name or `auto`, the exits by 1-based layer, whether the highway
    after the last layer is consulted (None: as the paper's code does), and which layers are run
    (None: all; see `exporter.kept_layers`).
    """

    task: str = "auto"
    exits: tuple[int, ...] | None = None
    policy: str = "auto"
    last_highway: bool | None = None
    layers: str | Sequence[int] | None = None

    def choose_layers(self, available: tuple[int, ...]) -> tuple[int, ...]:
        """Pick the requested exit layers, all where none were requested.

        Raises:
            ExportError: an exit was requested that the checkpoint does not have.
        """
        if self.exits is None:
            return available
        if missing := sorted(set(self.exits) - set(available)):
            raise ExportError(
                f"The checkpoint has no exit after layer {', '.join(map(str, missing))}; it has "
                f"trained exits after layers {', '.join(map(str, available))}."
            )
        return tuple(sorted(set(self.exits)))

    def require_task(self, task: str, reason: str) -> None:
        """Refuse a requested task other than the only one that fits.

        Raises:
            ExportError: another task was requested.
        """
        if self.task not in ("auto", task):
            raise ExportError(f"Task {self.task} does not fit: {reason}, so the task is {task}.")


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

"""What the user may fix of a model that a format loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from effbert.runtime.errors import ExportError


@dataclass(frozen=True)
class LoadOptions:
    """The choices of the user.

    The task and the exit policy by name or `auto`, the exits by 1-based layer, whether the highway
    after the last layer is consulted (None: as the paper's code does), which layers are run (None:
    all; see `exporter.encoders.depth`), and the threshold of movement pruning (None: not said).
    """

    task: str = "auto"
    exits: tuple[int, ...] | None = None
    policy: str = "auto"
    last_highway: bool | None = None
    layers: str | Sequence[int] | None = None
    mask_threshold: float | None = None

    def choose_layers(self, available: tuple[int, ...]) -> tuple[int, ...]:
        """Pick the requested exit layers, all where none were requested.

        Raises:
            ExportError: An exit was requested that the checkpoint does not have.
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
            ExportError: Another task was requested.
        """
        if self.task not in ("auto", task):
            raise ExportError(f"Task {self.task} does not fit: {reason}, so the task is {task}.")

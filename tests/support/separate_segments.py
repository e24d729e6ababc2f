"""Bundles whose segments run one after the other, where they would be joined into one graph."""

from __future__ import annotations

from typing import Any

import pytest

from effbert.runtime.engines.onnxruntime.engine import OnnxRuntime
from effbert.runtime.engines.protocol import CannotJoinError


def keep_apart(patch: pytest.MonkeyPatch) -> None:
    """Let sessions that are opened from now on run the segments of onnxruntime one by one."""

    def refuse(*_: Any) -> None:
        raise CannotJoinError("a test keeps them apart")

    patch.setattr(OnnxRuntime, "join", refuse)

"""Processes of their own, so that no measurement sees what another one left in memory."""

from __future__ import annotations

import multiprocessing
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from typing import Any

CONTEXT = multiprocessing.get_context("spawn")


def in_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work(*arguments)` returns in a new process that ends afterwards."""
    with ProcessPoolExecutor(1, mp_context=CONTEXT) as pool:
        return pool.submit(work, *arguments).result()


def machine() -> dict[str, Any]:
    """What a reader of the numbers must know."""
    names = ("effbert", "onnxruntime", "torch", "transformers")
    return {
        "machine": platform.machine(),
        "cores": multiprocessing.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }

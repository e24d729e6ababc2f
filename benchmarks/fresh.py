"""Processes of their own, so that no measurement sees what another one left in memory."""

from __future__ import annotations

import multiprocessing
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ABILITIES = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}
CONTEXT = multiprocessing.get_context("spawn")


def in_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work(*arguments)` returns in a new process that ends afterwards."""
    with ProcessPoolExecutor(1, mp_context=CONTEXT) as pool:
        return pool.submit(work, *arguments).result()


def processor() -> str:
    """The processor's name and those of its abilities that decide about int8 and bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    facts = {key.strip(): value.strip() for key, _, value in (li.partition(":") for li in lines)}
    flags = ABILITIES & set(facts.get("flags", "").split())
    name = facts.get("model name", platform.processor())
    return f"{name} ({', '.join(sorted(flags))})" if flags else name


def machine() -> dict[str, Any]:
    """What a reader of the numbers must know."""
    libraries = ("onnxruntime", "openvino", "nncf", "torch", "transformers")
    names = ("effbert", *(name for name in libraries if find_spec(name)))
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": platform.machine(),
        "processor": processor(),
        "cores": multiprocessing.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }

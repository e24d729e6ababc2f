"""The machine that a report was made on, and the versions that made it."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from effbert.runtime.session import Session

LIBRARIES = ("effbert", "numpy", "tokenizers", "onnxruntime", "openvino")


def machine_facts(session: Session | None) -> dict[str, str]:
    """Tell what a reader of times must know.

    Args:
        session: What ran the segments; None if nothing did.
    """
    facts = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "processor": _processor(),
        "cores": str(os.cpu_count() or "unknown"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if session is not None:
        how = "joined into one graph" if session.mode.joined else "one by one"
        facts["engine"] = f"{session.engine}, segments {how}"
        facts["threads"] = str(session.threads)
    return facts | {name: found for name in LIBRARIES if (found := _version(name))}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

"""Failures of an engine's library, as errors of ours."""

from __future__ import annotations

import re

from effbert.runtime.errors import EngineError, ResourceError

OUT_OF_MEMORY = ("failed to allocate", "bad_alloc", "bad allocation", "out of memory")
# What onnxruntime says of the nodes around the one that failed.
FRAMES = re.compile(r"Non-zero status code returned while running (?:If|Loop) node\. .*?Message: ")
NOT_IMPLEMENTED = re.compile(r"Could not find an implementation for (\w+)\((\d+)\) node")
LONGEST = 300


def translated(error: Exception, library: str, action: str, name: str) -> Exception:
    """Return the error to raise when a library could not open or run a segment.

    Args:
        error: What the library raised.
        library: Its name.
        action: "open" or "run".
        name: File name of the segment.
    """
    text = FRAMES.sub("", str(error))
    if isinstance(error, MemoryError) or any(part in text.lower() for part in OUT_OF_MEMORY):
        return ResourceError(f"{library} ran out of memory while it tried to {action} {name}.")
    if missing := NOT_IMPLEMENTED.search(text):
        operator, opset = missing.groups()
        return EngineError(
            f"This version of {library} could not {action} {name}: it does not compute {operator} "
            f"of opset {opset}, or not in this precision; install a newer one, or export the "
            "bundle again with a lower --opset."
        )
    return EngineError(f"{library} could not {action} {name}: {' '.join(text.split())[:LONGEST]}")

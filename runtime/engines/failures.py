"""Failures of an engine's library, as errors of ours."""

from __future__ import annotations

from effbert.runtime.errors import EngineError, ResourceError

OUT_OF_MEMORY = ("failed to allocate", "bad_alloc", "bad allocation", "out of memory")
LONGEST = 300


def translated(error: Exception, library: str, action: str, name: str) -> Exception:
    """The error to raise when a library could not open or run a segment.

    Args:
        error: What the library raised.
        library: Its name.
        action: "open" or "run".
        name: File name of the segment.
    """
    text = str(error)
    if isinstance(error, MemoryError) or any(part in text.lower() for part in OUT_OF_MEMORY):
        return ResourceError(f"{library} ran out of memory while it tried to {action} {name}.")
    return EngineError(f"{library} could not {action} {name}: {' '.join(text.split())[:LONGEST]}")

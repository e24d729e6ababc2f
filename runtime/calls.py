"""The calls of a session that are running; closing waits for them."""

from __future__ import annotations

import os
import threading

from effbert.runtime.errors import ResourceError, RunError


class Calls:
    """A context that every call of a session runs in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._running = 0
        self._closed = False
        self._process = os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            raise RunError(
                "This session was opened before the process forked, and its threads stayed there; "
                "open the bundle in the child, or start the child with spawn."
            )
        with self._lock:
            if self._closed:
                raise RunError("This session is closed; open the bundle again.")
            self._running += 1

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._lock:
            self._running -= 1
            if self._closed:
                self._idle.notify_all()
        if isinstance(error, MemoryError):
            raise ResourceError("Memory ran out; send fewer rows in one call.") from error

    def close(self) -> bool:
        """Waits for the calls that are running; no other can begin.

        Returns:
            Whether there is something to free: a process that was forked has no threads of it.
        """
        if self._process != os.getpid():
            return False
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._running == 0)
        return True

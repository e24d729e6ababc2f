"""The calls of a session that are running; closing waits for them."""

from __future__ import annotations

import os
import threading
from collections import deque

from effbert.runtime.errors import ResourceError, RunError


class Calls:
    """A context that every call of a session runs in."""

    def __init__(self) -> None:
        self._running: deque[None] = deque()  # appends and pops need no lock
        self._closing = threading.Condition()
        self._closed = False
        self._process = os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            raise RunError(
                "This session was opened in another process, before the fork, and its threads "
                "stayed there; open the bundle after the fork (gunicorn --preload: in the hook "
                "post_fork)."
            )
        self._running.append(None)  # first, so that `close` waits or is seen here
        if self._closed:
            self._leave()
            raise RunError("This session is closed; open the bundle again.")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._leave()
        if isinstance(error, MemoryError):
            raise ResourceError("Memory ran out; send fewer rows in one call.") from error

    def _leave(self) -> None:
        self._running.pop()
        if self._closed:
            with self._closing:
                self._closing.notify_all()

    def close(self) -> bool:
        """Wait for the calls that are running; no other can begin.

        Returns:
            Whether there is something to free: a process that was forked has no threads of it.
        """
        if self._process != os.getpid():
            return False
        with self._closing:
            self._closed = True
            self._closing.wait_for(lambda: not self._running)
        return True

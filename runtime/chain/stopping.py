"""Stopping a run: by the caller, from any thread, or at a deadline."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from effbert.runtime.errors import CancelledError, EngineError, InputError


class Cancel:
    """Hand it to a call as `cancel=`; `cancel()` from any thread stops that call.

    The call raises CancelledError, the session stays usable. One Cancel may serve several calls;
    once used it stays cancelled.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._running: set[Any] = set()

    def _locked(self) -> threading.Lock:
        """Return the lock; in a forked process a new one, for the calls that run there."""
        if self._process != os.getpid():
            self._start()
        return self._lock

    def cancel(self) -> None:
        """Stop every call that holds this object, also in the middle of a segment."""
        with self._locked():
            self.cancelled = True
            for options in self._running:
                options.terminate = True

    @contextmanager
    def stopping(self, options: Any) -> Iterator[None]:
        """While inside, `cancel` sets `options.terminate`, and the failure that follows is ours."""
        with self._locked():
            self._running.add(options)
        try:
            yield
        except EngineError as error:
            self.check(error)
            raise
        finally:
            with self._locked():
                self._running.discard(options)

    def check(self, cause: Exception | None = None) -> None:
        """Raise CancelledError if `cancel` was called."""
        if self.cancelled:
            raise CancelledError("The run was cancelled by the caller.") from cause


class Deadline:
    """A moment `milliseconds` from now; None never comes."""

    def __init__(self, milliseconds: float | None) -> None:
        if milliseconds is None:
            self._moment: float | None = None
            return
        if isinstance(milliseconds, bool) or not isinstance(
            milliseconds, int | float | np.integer | np.floating
        ):
            raise InputError(f"deadline_ms: got {milliseconds!r}, expected milliseconds or None.")
        if not milliseconds >= 0:
            raise InputError(f"deadline_ms: got {milliseconds}, expected 0 or more.")
        self._moment = time.monotonic() + float(milliseconds) / 1000

    @property
    def never(self) -> bool:
        """Whether the moment never comes."""
        return self._moment is None

    def left(self) -> float:
        """Seconds until the moment; below 0 if it is over."""
        return math.inf if self._moment is None else self._moment - time.monotonic()

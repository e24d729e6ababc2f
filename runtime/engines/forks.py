"""What a forked process inherits of an engine: objects whose threads stayed in the other process.

An engine's object waits for its threads when it is destroyed, and a child has none of them: it
would wait for ever, at the latest when it ends. So a child destroys nothing that it inherits. This
costs no memory, since the pages are those of the parent.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections import deque
from weakref import WeakSet

LONGEST_WAIT = 10  # seconds
SETTLED = 0.03  # seconds, after which threads without work sleep

_holders: WeakSet[object] = WeakSet()


def keep_in_children(holder: object) -> None:
    """Keep what `holder` refers to alive for ever in every process that is forked from now on."""
    _holders.add(holder)


class Unforked:
    """A context for work that holds locks of a library; a fork waits until none of it runs.

    Else the child inherits the locks too, and nobody there who would unlock them.
    """

    def __init__(self) -> None:
        self._running: deque[None] = deque()  # appends and pops need no lock
        self._changed = threading.Condition()
        self._forking = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._wait, after_in_parent=self._go_on, after_in_child=self._start_anew
            )

    def __enter__(self) -> None:
        self._running.append(None)  # first, so that `_wait` waits or is seen here
        while self._forking:
            self._running.pop()
            with self._changed:
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._forking)
            self._running.append(None)

    def __exit__(self, *_: object) -> None:
        self._running.pop()
        if self._forking:
            with self._changed:
                self._changed.notify_all()

    def _wait(self) -> None:
        with self._changed:
            self._forking = True
            self._changed.wait_for(lambda: not self._running, LONGEST_WAIT)
        time.sleep(SETTLED)

    def _go_on(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def _start_anew(self) -> None:
        self._running, self._changed, self._forking = deque(), threading.Condition(), False


def _keep() -> None:
    """Count one reference too many, which also outlives the modules when the interpreter ends."""
    for holder in list(_holders):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(holder))


def _end_early() -> None:
    """Let this process end before the libraries destroy their static objects, pools of threads too.

    It ends with its own exit code, after Python's exit handlers; output of C is written.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):  # glibc's, whose functions get the code; the last comes first
        library.on_exit(library._exit, None)
        library.on_exit(library.fcloseall, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep)
    os.register_at_fork(after_in_child=_end_early)

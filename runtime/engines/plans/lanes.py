"""What one call at a time owns: a stream, contexts, buffers. Kept for the next call."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from effbert.runtime.engines.plans.device import Device
from effbert.runtime.engines.plans.executable import Context, Executable
from effbert.runtime.engines.plans.memory_pool import Mirrored, Pool
from effbert.runtime.errors import EngineError, ResourceError


class Lane:
    """A stream, a context for each segment, and the memory that their work uses."""

    def __init__(self, device: Device, executables: Sequence[Executable]) -> None:
        self.device = device
        self.stream = device.open_stream()
        self.carries = Pool(device)
        self.sent = Mirrored(device)
        self.answers = Mirrored(device)
        self.contexts: list[Context] = []
        self._scratch = 0
        try:
            # Segments run one after the other on one stream, so all compute in the same memory.
            size = max((1, *(item.scratch for item in executables)))
            self._scratch = device.allocate(size)
            self.contexts += [item.context(self._scratch, size) for item in executables]
        except BaseException:
            self.close()
            raise

    def idle(self) -> None:
        """Wait for the work of a call that ended, and take its buffers back."""
        with suppress(EngineError):  # what failed was raised where it was noticed
            self.device.synchronize(self.stream)
        self.carries.keep_only(())

    def close(self) -> None:
        """Free everything; the contexts first, which use it."""
        self.contexts.clear()
        self.carries.close()
        self.sent.close()
        self.answers.close()
        if self._scratch:
            scratch, self._scratch = self._scratch, 0
            self.device.free(scratch)
        self.device.close_stream(self.stream)


class Lanes:
    """The lanes of a chain: made when calls come at the same time, at most `most`."""

    def __init__(
        self,
        device: Device,
        executables: Sequence[Executable],
        most: int,
        before_close: Callable[[], None] | None = None,
    ) -> None:
        self._device = device
        self._executables = executables
        self._most = most
        self._before_close = before_close
        self._count = 0
        self._idle: list[Lane] = []
        self._changed = threading.Condition()
        self._process = os.getpid()

    def take(self) -> Lane:
        """Return a lane that no other call has; waits if all are taken."""
        self._device.activate()
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._count < self._most)
            if self._idle:
                return self._idle.pop()
            self._count += 1
        try:
            return Lane(self._device, self._executables)
        except ResourceError:
            if not self._without_one_more():
                raise
            return self.take()
        except BaseException:
            self._without_one_more()
            raise

    def give_back(self, lane: Lane) -> None:
        """Take a lane back from a call that ended."""
        lane.idle()
        with self._changed:
            self._idle.append(lane)
            self._changed.notify()

    def _without_one_more(self) -> bool:
        """Do with the lanes that there are, if there are any: for another the memory is missing."""
        with self._changed:
            self._count -= 1
            if self._count:
                self._most = self._count
            self._changed.notify()
            return self._count > 0

    def close(self) -> None:
        """Free all lanes; no call has one. A forked process frees nothing, it has no GPU."""
        if self._process != os.getpid():
            return
        with suppress(EngineError):
            self._device.activate()
            if self._before_close is not None:
                self._before_close()
        with self._changed:
            lanes, self._idle = self._idle, []
            self._count -= len(lanes)
        for lane in lanes:
            with suppress(EngineError, ResourceError):
                self._device.activate()
                lane.close()

"""Plans that TensorRT loaded, of either library: each call's result is looked at.

TensorRT-RTX and TensorRT have the same functions here; what only one of them has is asked for by
name, not by version.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from effbert.runtime.engines.plans.executable import Feed, Shape
from effbert.runtime.errors import EngineError

LONGEST = 300
SOURCE = re.compile(r"\s*In \w+ at /_src/[^\s)]+")


class Messages:
    """What TensorRT logged last in each thread; its functions say only that they failed."""

    def __init__(self) -> None:
        self._by_thread = threading.local()

    def add(self, text: str) -> None:
        """Keep a message."""
        self._by_thread.texts = [*getattr(self._by_thread, "texts", [])[-9:], text]

    def clear(self) -> None:
        """Forget this thread's messages."""
        self._by_thread.texts = []

    def last(self) -> str:
        """Return this thread's last message, without where TensorRT's source said it.

        Without a driver, a line about that follows whatever else is wrong.
        """
        texts = getattr(self._by_thread, "texts", [])
        telling = [text for text in texts if "catchCudaError" not in text] or texts
        if not telling:
            return "no reason given"
        return " ".join(SOURCE.sub("", telling[-1]).split())[:LONGEST].rstrip(".")


def make_logger(trt: Any) -> tuple[Any, Messages]:
    """Make a logger that keeps errors, for a TensorRT module."""
    messages = Messages()
    errors = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc]  # the module is known when it is loaded
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in errors:
                messages.add(message)

    return Logger(), messages


class TensorRtPlan:
    """A plan of one segment; see `Executable`.

    Attributes:
        scratch: Bytes of a context, with the profile that needs most.
    """

    def __init__(self, name: str, engine: Any, make_context: Callable[[], Any], messages: Messages):
        """Take a loaded plan.

        Args:
            name: File name of the segment, for messages.
            engine: TensorRT's.
            make_context: Returns a context of it that has no memory yet, or None.
            messages: Of its logger.
        """
        self._name = name
        self._engine = engine
        self._make_context = make_context
        self._messages = messages
        self.scratch = int(engine.device_memory_size_v2)

    @property
    def profiles(self) -> int:
        """How many profiles it has."""
        return int(self._engine.num_optimization_profiles)

    def context(self, scratch: int, size: int) -> TensorRtContext:
        """Create a context; TensorRT-RTX compiles its kernels here."""
        self._messages.clear()
        context = self._make_context()
        if context is None:
            raise EngineError(
                f"TensorRT could not make the plan of {self._name} ready: {self._messages.last()}."
            )
        context.set_device_memory(scratch, size)
        return TensorRtContext(self._name, self._engine, context, self._messages)


class TensorRtContext:
    """What one call at a time computes with; see `Context`."""

    def __init__(self, name: str, engine: Any, context: Any, messages: Messages) -> None:
        self._name = name
        self._context = context
        self._messages = messages
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        modes = {each: engine.get_tensor_mode(each).name for each in names}
        self._outputs = [each for each in names if modes[each] == "OUTPUT"]
        self._profile: int | None = None
        self._shapes: dict[str, Shape] = {}  # of inputs, as they are set
        self._addresses: dict[str, int] = {}
        self._values: dict[str, ndarray] = {}
        self._found: dict[str, Shape] = {}  # of outputs

    def prepare(
        self,
        profile: int,
        feeds: Mapping[str, Feed],
        values: Mapping[str, ndarray],
        stream: int,
    ) -> dict[str, Shape]:
        """Bind the inputs; see `Context.prepare`."""
        context = self._context
        self._messages.clear()
        if profile != self._profile:
            self._profile, self._found = None, {}
            self._shapes.clear()
            self._addresses.clear()
            self._require(
                context.set_optimization_profile_async(profile, stream), f"profile {profile}"
            )
            self._profile = profile
        for name, feed in feeds.items():
            if self._shapes.get(name) != feed.shape:
                self._found = {}
                self._require(context.set_input_shape(name, feed.shape), f"{name} of {feed.shape}")
                self._shapes[name] = feed.shape
            self._bind(name, feed.address)
        for name, value in values.items():
            self._set_value(name, value)
        if not self._found:
            if missing := self._missing():
                raise EngineError(
                    f"The plan of {self._name} wants inputs that were not bound: "
                    f"{', '.join(missing)}; compile the bundle again."
                )
            self._found = {name: self._shape(name) for name in self._outputs}
        return self._found

    def launch(self, outputs: Mapping[str, int], stream: int) -> None:
        """Queue the work."""
        for name in self._outputs:
            self._bind(name, outputs[name])
        self._require(self._context.execute_async_v3(stream), "a launch")

    def _bind(self, name: str, address: int) -> None:
        """Tell TensorRT where a tensor is, unless it knows."""
        if self._addresses.get(name) != address:
            self._require(self._context.set_tensor_address(name, address), name)
            self._addresses[name] = address

    def _set_value(self, name: str, value: ndarray) -> None:
        """Give TensorRT an input that it reads from memory of the host, until the work is done."""
        held = self._values.get(name)
        if held is not None and name in self._addresses and np.array_equal(held, value):
            return
        if held is None:
            held = self._values[name] = value.copy()
        held[...] = value
        self._found = {}
        self._addresses.pop(name, None)  # to bind it again is what says that it changed
        self._require(self._context.set_input_shape(name, held.shape), name)
        self._bind(name, held.ctypes.data)

    def _missing(self) -> list[str]:
        """Let TensorRT work out the shapes; return the inputs that it still wants."""
        try:
            missing: list[str] = self._context.infer_shapes()
        except RuntimeError as error:
            raise EngineError(
                f"TensorRT cannot work out the shapes of {self._name}: "
                f"{' '.join(str(error).split())[:LONGEST]}."
            ) from error
        return missing

    def _shape(self, name: str) -> Shape:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(extent < 0 for extent in shape):
            raise EngineError(
                f"The plan of {self._name} makes {name} of an extent that only the data says, "
                "which cannot be chained; compile the bundle again."
            )
        return shape

    def _require(self, ok: bool, what: str) -> None:
        if not ok:
            raise EngineError(
                f"TensorRT refused {what} for the plan of {self._name}: {self._messages.last()}."
            )

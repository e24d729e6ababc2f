"""A digest of a torch module: what it is made of, in any process and on any day the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), PurePath)
NAMED = (type, ModuleType, BuiltinFunctionType, torch.dtype, torch.device, Enum)


class NoFingerprint(Exception):
    """Something whose meaning we cannot write down."""


def fingerprint(*things: Any) -> str:
    """Digest values, containers, tensors, modules and other objects down to their attributes.

    Raises:
        NoFingerprint: something keeps its state where we do not see it.
    """
    walk = _Walk()
    walk.visit(things)
    return walk.digest.hexdigest()


class _Walk:
    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        # The objects themselves are kept: an id is only theirs while they live.
        self.seen: dict[int, tuple[int, Any]] = {}

    def say(self, *words: object) -> None:
        for word in words:
            text = repr(word).encode()
            self.digest.update(b"%d:" % len(text) + text)

    def visit(self, thing: Any) -> None:
        kind = type(thing)
        if kind in PLAIN or isinstance(thing, PLAIN):
            self.say(kind.__qualname__, thing)
        elif isinstance(thing, NAMED):
            # A built-in function's own text holds its address.
            name = getattr(thing, "__qualname__", str(thing))
            self.say(kind.__qualname__, getattr(thing, "__module__", None), name)
        elif id(thing) in self.seen:
            self.say("again", self.seen[id(thing)][0])
        else:
            self.seen[id(thing)] = (len(self.seen), thing)
            self.say(f"{kind.__module__}.{kind.__qualname__}")
            self.visit_parts(thing)

    def visit_parts(self, thing: Any) -> None:
        if isinstance(thing, torch.Tensor):
            self.tensor(thing)
        elif isinstance(thing, np.ndarray):
            self.array(thing)
        elif isinstance(thing, Mapping):
            self.each([part for item in thing.items() for part in item])
            self.each(getattr(thing, "__dict__", {}).items())
        elif isinstance(thing, (tuple, list)):
            self.each(thing)
        elif isinstance(thing, (set, frozenset)):
            self.say(*sorted(fingerprint(each) for each in thing))
        elif isinstance(thing, FunctionType):
            self.function(thing)
        elif isinstance(thing, MethodType):
            self.each([thing.__func__, thing.__self__])
        elif isinstance(thing, re.Pattern):
            self.each([thing.pattern, thing.flags])
        elif isinstance(thing, CodeType):
            self.each([thing.co_code, thing.co_consts, thing.co_names, thing.co_varnames])
        else:
            self.state(thing)

    def each(self, things: Any) -> None:
        things = list(things)
        self.say(len(things))
        for thing in things:
            self.visit(thing)

    def tensor(self, tensor: torch.Tensor) -> None:
        if tensor.layout != torch.strided:
            raise NoFingerprint(f"a tensor of layout {tensor.layout}")
        self.say(str(tensor.dtype), tuple(tensor.shape), tensor.requires_grad)
        flat = tensor.detach().cpu().contiguous().flatten()
        self.digest.update(flat.view(torch.uint8).numpy().tobytes())

    def array(self, array: np.ndarray) -> None:
        if array.dtype.hasobject:
            raise NoFingerprint("an array of objects")
        self.say(array.dtype.str, array.shape)
        self.digest.update(array.tobytes())

    def function(self, function: Callable[..., Any]) -> None:
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        defaults = [function.__defaults__, function.__kwdefaults__]
        self.say(function.__module__, function.__qualname__)
        self.each([function.__code__, cells, defaults])

    def state(self, thing: Any) -> None:
        """Attributes; for what has none, what pickle would keep."""
        held = getattr(thing, "__dict__", None)
        slots = {
            name: getattr(thing, name)
            for kind in type(thing).__mro__
            for name in getattr(kind, "__slots__", ())
            if hasattr(thing, name) and name not in ("__dict__", "__weakref__")
        } or {name: getattr(thing, name) for name in getattr(thing, "__struct_fields__", ())}
        if held is None and not slots:
            try:
                _, *parts = thing.__reduce_ex__(2)
            except TypeError as error:
                raise NoFingerprint(f"{type(thing)}: {error}") from error
            self.each([part for part in parts if isinstance(part, (tuple, Mapping))])
        # Hooks have numbers that count all hooks of the process; only their order means something.
        plain = {
            name: [*part.values()] if name.endswith("_hooks") and isinstance(part, dict) else part
            for name, part in (held or {}).items()
        }
        self.each([part for item in (plain | slots).items() for part in item])


def source_digest(*places: Path) -> str:
    """Digest the Python files at and below these places."""
    digest = hashlib.sha256()
    for place in places:
        for file in sorted([place] if place.is_file() else place.rglob("*.py")):
            name = str(file.relative_to(place.parent))
            digest.update(name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()

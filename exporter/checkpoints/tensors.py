"""Tensors of a checkpoint by name, which keep account of what was read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from effbert.runtime.errors import CheckpointError


@dataclass
class Account:
    """What became of the tensors of one checkpoint, by the names that its file gives them.

    Attributes:
        read: Those that became part of a model.
        reasons: Patterns of names that are left out on purpose, and what they are.
        notes: What else was left out, as sentences for the user.
    """

    read: set[str] = field(default_factory=set)
    reasons: list[tuple[re.Pattern[str], str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, pattern: str, what: str) -> None:
        """Say that tensors whose whole names match belong to `what`, which answers do not need."""
        self.reasons.append((re.compile(pattern), what))

    def say(self, *notes: str) -> None:
        """Keep sentences for the user, each once."""
        self.notes += [note for note in notes if note not in self.notes]


class Tensors(Mapping[str, torch.Tensor]):
    """Tensors by name; whatever is looked up counts as read."""

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        account: Account,
        stored: Mapping[str, str] | None = None,
        change: Callable[[str, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        """Take tensors by the names of the file, and those names by the names to use here."""
        self._tensors = tensors
        self._change = change
        self._account = account
        self._stored = {name: name for name in tensors} if stored is None else stored

    def __getitem__(self, name: str) -> torch.Tensor:
        """Read a tensor."""
        tensor = self._tensors[self._stored[name]]
        self._account.read.add(self._stored[name])
        return tensor if self._change is None else self._change(name, tensor)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a tensor of that name, without reading it."""
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._stored)

    def __len__(self) -> int:
        """Count them."""
        return len(self._stored)

    def renamed(self, rename: Callable[[str], str | None]) -> Tensors:
        """Return the same tensors by other names, without those that get none.

        Raises:
            CheckpointError: Two tensors get the same name.
        """
        stored: dict[str, str] = {}
        for name, key in self._stored.items():
            new = rename(name)
            if new in stored:
                raise two_for_one(stored[new], key, new)
            if new is not None:
                stored[new] = key
        return Tensors(self._tensors, self._account, stored, self._change)

    def changed(self, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Tensors:
        """Return tensors that `change` is called with, by the names here, whenever one is read."""
        return Tensors(self._tensors, self._account, self._stored, change)

    def equal(self, name: str, other: str) -> bool:
        """Tell whether two tensors are the same, without reading them."""
        one, two = (self._tensors[self._stored[each]] for each in (name, other))
        return torch.equal(one, two)

    def as_lazy(self) -> dict[str, Any]:
        """Return what stands for each tensor where transformers fills a model: `[...]` reads it."""
        return {name: _Lazy(self, name) for name in self._stored}

    def unread(self) -> list[str]:
        """List those that were not read, by the names of the file."""
        return [key for key in self._stored.values() if key not in self._account.read]


class _Lazy:
    """A tensor that is read when transformers takes it, and not before."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        self._tensors, self._name = tensors, name

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self._tensors[self._name][index]


def two_for_one(first: str, second: str, name: str) -> CheckpointError:
    """Say that two tensors of a file have the same name in the model."""
    return CheckpointError(
        f"{first} and {second} are both the model's {name}, and only one of them can be right; "
        "remove the other from the file."
    )

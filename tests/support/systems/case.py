"""A checkpoint of a system, how it is exported, and what is particular about its bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from systems.exported import Exported, export_new

Knobs = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """One member of the contract suite.

    `knobs` gives values at which rows must leave at `least` exits or more; `own` is the share of
    rows for a threshold of every exit's own, None where a rule has no such thing, and `at` says
    what a signal that equals its threshold does. `starts` are knobs that the checkpoint brings
    along: other checkpoints must never exit by themselves. `unruled` is a reference of the exits
    before any rule looks at them, where it is another than `reference`.
    """

    name: str
    format: str
    write: Callable[..., Path]
    reference: Callable[[Path], Any]
    policy: str
    knobs: Callable[[ExportedCase], Sequence[Knobs]]
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    exit_layers: tuple[int, ...] = ()
    least: int = 3
    own: float | None = 0.4
    at: Literal["leaves", "goes on"] | None = "goes on"
    starts: bool = False
    paper: str = ""
    problem: str = "single-label"
    architecture: str = "bert"
    padding_free: bool = True
    unruled: Callable[[Path], Any] | None = None
    slow: bool = False

    @property
    def vocabulary(self) -> str:
        return self.architecture if self.architecture in ("roberta", "albert") else "bert"


@dataclass(frozen=True)
class ExportedCase(Exported):
    """A case's checkpoint and bundle."""

    case: Case = field(kw_only=True)

    @property
    def name(self) -> str:
        return self.case.name

    @cached_property
    def unruled(self) -> Any:
        """What the exits say before any rule looks at them."""
        return self.case.unruled(self.checkpoint) if self.case.unruled else self.reference


def case_of(defaults: Mapping[str, Any], name: str, **more: Any) -> Case:
    """A case of a system; what is no field of a case is an option of its checkpoint."""
    fields = Case.__dataclass_fields__
    own = {key: value for key, value in more.items() if key in fields}
    options = {key: value for key, value in more.items() if key not in fields}
    found = {
        "architecture": options.get("backbone", "bert"),
        "problem": "regression" if options.get("labels") == 1 else "single-label",
        "exit_layers": tuple(range(1, options.get("layers", 4) + 1)),
    }
    return Case(name=name, options=options, **{**found, **defaults, **own})


def export_case(case: Case, folder: Path) -> ExportedCase:
    """Write the checkpoint and `effbert-export CHECKPOINT BUNDLE` it."""
    made = export_new(
        folder,
        case.write,
        case.reference,
        case.vocabulary,
        arguments=case.arguments,
        **case.options,
    )
    return ExportedCase(**vars(made), case=case)


def parameters(cases: Sequence[Case]) -> list[Any]:
    """Cases for `parametrize`, by name; the slow ones are marked."""
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param(case, id=case.name, marks=marks[case.slow]) for case in cases]


def at_quantiles(*shares: float) -> Callable[[ExportedCase], list[Knobs]]:
    """One threshold for all exits, below which these shares of all signals fall."""
    return lambda model: [{"threshold": model.quantile(q)} for q in shares]


def early_quantiles(*shares: float) -> Callable[[ExportedCase], list[Knobs]]:
    """The same of all exits but the last."""
    return lambda model: [
        {"threshold": float(np.quantile(model.signals[:, :-1], q))} for q in shares
    ]


def patience(*counts: int, limit: float | None = None) -> Callable[[ExportedCase], list[Knobs]]:
    """So many agreements; a regression's limit grows with them, so that some rows leave."""
    if limit is None:
        return lambda model: [{"threshold": count} for count in counts]
    return lambda model: [
        {"threshold": count, "regression_threshold": limit * count} for count in counts
    ]

"""Bundles as plans for the numpy double: their segments prepared, onnxruntime computes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effbert.graph_passes.prepare import Prepared, prepare
from effbert.runtime import Bundle, Session
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.engines.plans.chain import PlanChain
from effbert.runtime.engines.plans.executable import Extent, Profile, Range, Signature
from effbert.runtime.engines.plans.fitting import shape_limits
from effbert.runtime.engines.plans.lanes import Lane
from effbert.runtime.engines.protocol import UNLIMITED, EngineSettings
from effbert.runtime.engines.row_independence import DIFFERENCES
from effbert.runtime.engines.table import ENGINES, Entry
from numpy_device import NumpyDevice, NumpyPlan
from prepared_host import requests
from tiny_bundle import VOCABULARY

DEEP = 6  # exits of the bundle that tests of the chain run
Inputs = dict[str, np.ndarray]
LARGEST = {"batch": 64, "sequence": 64, "tokens": 64}


def prepared_segments(
    manifest: Manifest, files: list[bytes], weights: bytes | None, compute: str = "fp32"
) -> list[Prepared]:
    """Prepare every segment."""
    wanted = requests(Bundle(Path(), manifest), compute)
    pairs = zip(files, wanted, strict=False)  # those of variants come behind
    return [prepare(data, weights, request) for data, (_, request) in pairs]


def signature(prepared: Prepared, profiles: tuple[Profile, ...] | None = None) -> Signature:
    """What the chain must know of a prepared segment."""
    inputs = prepared.inputs
    return Signature(
        data=tuple(port.name for port in inputs if port.role in ("input", "carry")),
        knobs=tuple(port.name for port in inputs if port.role == "knob"),
        rows={port.name: port.rows for port in inputs if port.rows is not None},
        kept={
            e.name: Extent(e.knob, e.element, e.slack, e.least, e.total, e.exact)
            for e in prepared.extents
        },
        dtypes={port.name: port.dtype for port in prepared.outputs},
        profiles=(profile(prepared),) if profiles is None else profiles,
    )


def profile(prepared: Prepared, largest: Mapping[str, int] = LARGEST) -> Profile:
    """The shapes from 1 up to `largest`."""

    def extents(axes: Any, least: bool) -> tuple[int, ...]:
        return tuple(
            axis if isinstance(axis, int) else 1 if least else _largest(axis, largest)
            for axis in axes
        )

    return {
        port.name: Range(
            extents(port.axes, True), extents(port.axes, False), extents(port.axes, False)
        )
        for port in prepared.inputs
        if port.role != "extent"
    }


def _largest(axis: str, largest: Mapping[str, int]) -> int:
    return next((most for name, most in largest.items() if name in axis), 64)


class NumpyPlans:
    """An engine whose plans the numpy double runs; see `Engine`.

    Attributes:
        compute: Precision of the prepared graphs.
        lanes: Calls at the same time.
        profiles: Shapes that every plan holds; None is those of `profile`.
    """

    compute = "fp32"
    lanes = 4
    chains = True
    measured_rows: float | None = 0.0

    def __init__(self, settings: EngineSettings) -> None:
        self.device = NumpyDevice()
        self.limits = UNLIMITED
        self.plans: list[NumpyPlan] = []

    def load(self, *_: object) -> Any:
        raise AssertionError("plans are chained")

    def join(self, manifest: Manifest, files: Iterable[bytes], weights: bytes | None) -> PlanChain:
        prepared = prepared_segments(manifest, [*files], weights, self.compute)
        self.plans = [NumpyPlan(item.model, self.device) for item in prepared]
        signatures = [signature(item) for item in prepared]
        self.limits = shape_limits(signatures)
        return PlanChain(manifest, signatures, self.plans, self.device, self.lanes)

    def options(self) -> Options:
        return Options()


class Options:
    terminate = False


NAME = "plans on numpy"
ENTRY = Entry("plan_chains:NumpyPlans", "numpy", "nothing", on_request=True)


def register(patch: pytest.MonkeyPatch) -> None:
    """Let sessions open the engine `NAME`, whose rows are independent."""
    patch.setitem(ENGINES, NAME, ENTRY)
    patch.setitem(DIFFERENCES, (NAME, "fp32"), 0.0)


def rows(count: int, length: int = 20, seed: int = 0) -> Inputs:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, length + 1, (count, 1))
    return {
        "input_ids": generator.integers(5, len(VOCABULARY), (count, length)),
        "attention_mask": (np.arange(length) < lengths).astype(np.int64),
    }


def device_of(session: Session) -> NumpyDevice:
    return session._engine.device


def lanes_of(session: Session) -> list[Lane]:
    """The lanes that no call has."""
    return session._chains.default._segments._lanes._idle


def same(found: Any, expected: Any) -> bool:
    return all(
        np.array_equal(getattr(found, name), getattr(expected, name))
        for name in ("exit_index", "logits", "signal")
    )

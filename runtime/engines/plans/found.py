"""The plans of a bundle: which there are, what they read and make, and their checked bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.engines.plans.executable import Extent, Profile, Range, Signature
from effbert.runtime.engines.plans.index import PlanIndex, PlanSegment, input_sizes, read_index
from effbert.runtime.engines.plans.plan_store import mark_used, stored_plans
from effbert.runtime.engines.plans.trust import read_plan
from effbert.runtime.errors import PlanError


class Wanted(NamedTuple):
    """What plans must be made for: the engine, its version, and what the GPU can do ("sm86")."""

    engine: str
    version: str
    capability: str


class FoundPlan(NamedTuple):
    """The plan of one segment; `read` gives its bytes, which are what the index says."""

    file: str
    sha256: str
    signature: Signature
    read: Callable[[], bytes]


class FoundPlans(NamedTuple):
    """The plans of all segments, in order."""

    folder: Path
    compute: str
    plans: list[FoundPlan]


def find_plans(manifest: Manifest, wanted: Wanted, folder: Path | None) -> FoundPlans:
    """Find the plans of a bundle's segments.

    Args:
        manifest: Of the bundle, or of a variant.
        wanted: What they must be made for.
        folder: Where to look; None is the user's cache.

    Raises:
        PlanError: There are none for this; says what is there instead.
    """
    if folder is not None:
        index = read_index(folder)
        if problem := _mismatch(manifest, index, wanted):
            raise PlanError(f"The plans in {folder} {problem}.")
        return _found(manifest, folder, index)
    for stored, index in stored_plans():
        if not _mismatch(manifest, index, wanted):
            mark_used(stored)
            return _found(manifest, stored, index)
    raise PlanError(
        f"There are no plans of this bundle for {wanted.engine} {wanted.version} on "
        f"{wanted.capability.upper()}; make them with: effbert compile BUNDLE --engine "
        f"{wanted.engine} --targets {wanted.capability}."
    )


def _mismatch(manifest: Manifest, index: PlanIndex, wanted: Wanted) -> str | None:
    """Say why plans do not fit a bundle, a library and a device; None if they do."""
    if index.engine != wanted.engine:
        return f"are for the engine {index.engine}, not for {wanted.engine}"
    if index.library != wanted.version:
        return (
            f"were built by version {index.library} of {wanted.engine}, and this is "
            f"{wanted.version}, which opens only its own; compile the bundle again"
        )
    if wanted.capability not in index.targets:
        targets = ", ".join(target.upper() for target in index.targets)
        return (
            f"were built for {targets}, and this device is {wanted.capability.upper()}; compile "
            f"the bundle with --targets {wanted.capability}"
        )
    plans = {segment.file: segment for segment in index.segments}
    for record in manifest.segments:
        plan = plans.get(record.file)
        if plan is None or not _made_from(plan, manifest):
            return f"were built from another bundle: {record.file} differs; compile this one"
    return None


def _made_from(plan: PlanSegment, manifest: Manifest) -> bool:
    weights = manifest.files.get(WEIGHTS_NAME)
    if manifest.files[plan.file].sha256 != plan.sha256:
        return False
    return plan.weights is None or (weights is not None and weights.sha256 == plan.weights)


def _found(manifest: Manifest, folder: Path, index: PlanIndex) -> FoundPlans:
    plans = {segment.file: segment for segment in index.segments}
    return FoundPlans(
        folder,
        index.compute,
        [
            FoundPlan(
                plan.file,
                plan.plan_sha256,
                signature_of(plan),
                partial(read_plan, folder, plan),
            )
            for plan in (plans[record.file] for record in manifest.segments)
        ],
    )


def signature_of(plan: PlanSegment) -> Signature:
    """Return what the chain must know of a plan."""
    ports = plan.inputs
    return Signature(
        data=tuple(port.name for port in ports if port.role in ("input", "carry")),
        knobs=tuple(port.name for port in ports if port.role == "knob"),
        rows={port.name: port.rows for port in ports if port.rows is not None},
        kept={
            each.name: Extent(*(getattr(each, name) for name in Extent._fields))
            for each in plan.extents
        },
        dtypes={port.name: port.dtype for port in plan.outputs},
        profiles=tuple(_profile(plan, index) for index in range(len(plan.profiles))),
    )


def _profile(plan: PlanSegment, index: int) -> Profile:
    sizes = input_sizes(plan.inputs, plan.profiles[index])
    return {name: Range(*(tuple(shape) for shape in shapes)) for name, shapes in sizes.items()}

"""`engine.json`: what lies in a folder of compiled plans, for which bundle and which devices.

It is read strictly: unknown versions and fields, and names that are no plain files in the folder,
are refused. The plans themselves are code; `trust.py` says which of them may be loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from effbert.runtime.bundle.manifest import FileName, Name, Record
from effbert.runtime.bundle.paths import name_problem, open_file
from effbert.runtime.bundle.strict_json import read_json, write_json
from effbert.runtime.errors import EffbertError, PlanError

INDEX_NAME = "engine.json"
FORMAT: Final = "effbert-engine"
VERSION = 1
MAX_BYTES = 4 << 20

EngineName = Literal["tensorrt-rtx", "tensorrt"]
Compute = Literal["fp32", "fp16", "bf16"]
Target = Annotated[str, Meta(pattern=r"^sm[0-9]{2,3}$(?!\n)")]
Extent = Annotated[int, Meta(ge=0, le=1 << 40)]
Sha = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
Word = Annotated[str, Meta(max_length=256)]
Dtype = Literal["float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"]


class PlanPort(Record):
    """An input or output of a plan.

    `axes` are fixed extents, or names of dynamic ones; equal names are equal extents. A `carry` is
    fed the buffer that an earlier segment made, and the input `rows` tells which of its rows go on.
    An `extent` is a number that the host computes and keeps in its own memory.
    """

    name: Name
    dtype: Dtype
    axes: Annotated[list[Word | Extent], Meta(max_length=8)]
    role: Literal["input", "knob", "carry", "rows", "extent", "output"]
    rows: Name | None = None


class PlanExtent(Record):
    """How many tokens stay: `extents.py` computes it as `graph_passes.host_extents` says."""

    name: Name
    knob: Name
    element: Annotated[int, Meta(ge=0, lt=512)]
    slack: float
    least: Extent
    total: Extent | None
    exact: bool


Sizes = tuple[Extent, Extent, Extent]  # the least, the usual and the largest


class PlanSegment(Record):
    """One segment of the bundle and its plan.

    Attributes:
        file: Its ONNX file in the bundle, with the `sha256` that the manifest gives.
        weights: sha256 of the bundle's `weights.bin`, if the segment reads it.
        plan: The file of the plan in this folder.
        profiles: For each, the sizes of every dynamic axis and every extent.
        changes: What was done to the graph, and how often.
    """

    file: FileName
    sha256: Sha
    weights: Sha | None
    plan: FileName
    size: Annotated[int, Meta(ge=1, le=1 << 40)]
    plan_sha256: Sha
    inputs: Annotated[list[PlanPort], Meta(min_length=1, max_length=128)]
    outputs: Annotated[list[PlanPort], Meta(min_length=1, max_length=64)]
    extents: Annotated[list[PlanExtent], Meta(max_length=64)]
    profiles: Annotated[list[dict[Word, Sizes]], Meta(min_length=1, max_length=64)]
    changes: dict[Word, Extent]


class PlanIndex(Record):
    """Everything in `engine.json`.

    Attributes:
        library: Version of the engine that built the plans, which no other version opens.
        targets: Devices that the plans run on.
        compute: Precision of products and attention.
        flags: Choices of the build, such as "tf32".
        segments: Those of every variant.
    """

    format: Literal["effbert-engine"]
    version: int
    engine: EngineName
    library: Word
    targets: Annotated[list[Target], Meta(min_length=1, max_length=32)]
    compute: Compute
    flags: dict[Word, bool]
    segments: Annotated[list[PlanSegment], Meta(min_length=1, max_length=1024)]


class _Head(Struct):
    format: Literal["effbert-engine"]
    version: int


def read_index(folder: Path) -> PlanIndex:
    """Read `engine.json` of a folder.

    Raises:
        PlanError: There is none, or it is not what this version of effbert writes.
    """
    if not os.path.lexists(folder / INDEX_NAME):
        raise PlanError(
            f"{folder} holds no {INDEX_NAME}; make plans with: effbert compile BUNDLE --output "
            f"{folder}."
        )
    try:
        with open(open_file(folder, INDEX_NAME), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except EffbertError as error:
        raise PlanError(str(error)) from error
    return parse_index(data, str(folder / INDEX_NAME))


def parse_index(data: bytes, name: str = INDEX_NAME) -> PlanIndex:
    """Read the bytes of `engine.json`.

    Raises:
        PlanError: They are not what this version of effbert writes.
    """
    if len(data) > MAX_BYTES:
        raise PlanError(f"{name} is larger than the {MAX_BYTES} bytes allowed.")
    try:
        value = read_json(data)
        head = msgspec.convert(value, _Head)
        if head.version != VERSION:
            raise PlanError(
                f"{name} has format version {head.version}, this effbert reads {VERSION}; compile "
                "the bundle again."
            )
        index = msgspec.convert(value, PlanIndex)
    except (ValueError, msgspec.ValidationError) as error:
        raise PlanError(f"{name} is not valid: {error}; compile the bundle again.") from None
    problem = _problem(index)
    if problem:
        raise PlanError(f"{name} is not valid: {problem}; compile the bundle again.")
    return index


def encode_index(index: PlanIndex) -> bytes:
    """Write an index as readable JSON; the same index always gives the same bytes."""
    return write_json(msgspec.to_builtins(index))


def _problem(index: PlanIndex) -> str | None:
    """Say what contradicts itself in an index."""
    files = [segment.file for segment in index.segments]
    plans = [segment.plan for segment in index.segments]
    for name in (*files, *plans):
        if problem := name_problem(name):
            return f"the file name {name[:128]!r} {problem}"
    if len({*files}) < len(files):
        return "a segment is listed twice"
    for segment in index.segments:
        if problem := _segment_problem(segment):
            return f"{segment.file}: {problem}"
    return None


def _segment_problem(segment: PlanSegment) -> str | None:
    names = [port.name for port in (*segment.inputs, *segment.outputs)]
    if len({*names}) < len(names):
        return "a tensor is listed twice"
    roles = {port.name: port.role for port in segment.inputs}
    extents = {extent.name for extent in segment.extents}
    if extents != {name for name, role in roles.items() if role == "extent"}:
        return "its extents are not its inputs of that role"
    for port in segment.inputs:
        if (port.role == "carry") != (port.rows is not None):
            return f"{port.name} has rows and is no carry, or the other way round"
        if port.rows is not None and roles.get(port.rows) != "rows":
            return f"the rows of {port.name} are no input"
    wanted = {axis for port in segment.inputs for axis in port.axes if isinstance(axis, str)}
    for profile in segment.profiles:
        if profile.keys() != wanted | extents:
            return "a profile does not have exactly the dynamic axes of the inputs"
        if any(not least <= usual <= most for least, usual, most in profile.values()):
            return "a profile has sizes that are not in order"
    return None


def input_sizes(
    inputs: Sequence[PlanPort], profile: Mapping[str, Sizes]
) -> dict[str, list[list[int]]]:
    """Return the shapes of a profile.

    Args:
        inputs: Of a segment.
        profile: One of its profiles.

    Returns:
        Input -> its least, usual and largest shape; for an extent, numbers of one value instead.
    """
    sizes = {}
    for port in inputs:
        axes = [port.name] if port.role == "extent" else port.axes
        spread = [profile[axis] if isinstance(axis, str) else (axis,) * 3 for axis in axes]
        sizes[port.name] = [[extent[k] for extent in spread] for k in range(3)]
    return sizes

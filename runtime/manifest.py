"""The manifest `effbert.json`: its types, its strict parser and its writer.

`docs/bundle.md` is the specification; the JSON Schema in `manifest.schema.json` is generated from
the types below.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from effbert.runtime.errors import ManifestError, VersionError

FORMAT = "effbert-bundle"
VERSION = (1, 0)
MANIFEST_NAME = "effbert.json"
WEIGHTS_NAME = "weights.bin"
MAX_MANIFEST_BYTES = 1 << 20

FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Text = Annotated[str, Meta(max_length=4096)]
Number = float | Literal["inf", "-inf", "nan"]
DType = Literal["float32", "int64", "bool"]
Axis = Literal["batch", "sequence"] | Annotated[int, Meta(ge=1, le=1 << 20)]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Task = Literal["text-classification", "token-classification", "question-answering"]
Problem = Literal["single-label", "multi-label", "regression"]


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all manifest records: immutable, keyword-only, unknown fields refused."""


class File(Record):
    """One file of the bundle: size in bytes and SHA-256 in lower-case hex."""

    size: Annotated[int, Meta(ge=0, le=1 << 40)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class Tensor(Record):
    """A named input or output of a segment; `axes` lists symbolic or fixed extents."""

    name: Name
    dtype: DType
    axes: Annotated[list[Axis], Meta(max_length=8)]


class Input(Tensor):
    """An input of the whole bundle; `missing` fills it when the caller leaves it out."""

    missing: Literal[0, 1] | None = None


class State(Tensor):
    """A carry of the exit policy; before the first segment it is full of `initial`."""

    initial: Number


class Segment(Record):
    """The graph between two exits. `layer` is the 1-based encoder layer of its exit.

    `carries` maps an input of later segments to the output that replaces it. FLOPs of one row of
    n tokens are `flops[0] + flops[1] * n + flops[2] * n * n` (a multiply-add counts as two).
    """

    file: FileName
    layer: Annotated[int, Meta(ge=1, le=512)]
    inputs: Annotated[list[Tensor], Meta(min_length=1, max_length=64)]
    outputs: Annotated[list[Tensor], Meta(min_length=1, max_length=64)]
    carries: dict[Name, Name]
    parameters: Count
    flops: tuple[Count, Count, Count]


class Policy(Record):
    """The exit policy, for people; the decision itself is in the graphs."""

    name: Text
    rule: Text
    paper: Text


class Knob(Record):
    """A runtime input that changes cost. `never` is the value at which no row exits early.

    A `per_exit` knob accepts one value, or a list of one value an exit. `raising` tells what a
    larger value does to the exits.
    """

    name: Name
    dtype: Literal["float32", "int64"]
    minimum: Number
    maximum: Number
    default: Number
    never: Number
    per_exit: bool
    raising: Literal["earlier", "later"]


class OperatingPoint(Record):
    """Knob values with the quality and cost measured at them on the named data."""

    name: Text
    knobs: dict[Name, Number | list[Number]]
    data: Text
    quality: dict[Text, Number] = {}
    cost: dict[Text, Number] = {}


class Tokenizer(Record):
    """The tokenizer file and what must be true of it. `max_length` counts special tokens."""

    file: FileName
    vocab_size: Annotated[int, Meta(ge=1, le=2_000_000)]
    max_length: Annotated[int, Meta(ge=2, le=8192)]
    special_ids: dict[Text, Annotated[int, Meta(ge=0, lt=2_000_000)]]


class Limits(Record):
    """What the model accepts: tokens a row, token ids, token types."""

    max_length: Annotated[int, Meta(ge=2, le=8192)]
    vocab_size: Annotated[int, Meta(ge=1, le=2_000_000)]
    type_vocab_size: Annotated[int, Meta(ge=0, le=1024)] = 0
    pad_id: Annotated[int, Meta(ge=0, lt=2_000_000)] = 0


class Golden(Record):
    """Known answers: token ids of one row, and every exit's outputs for it."""

    text: list[Text] | None
    input_ids: Annotated[list[int], Meta(min_length=2, max_length=8192)]
    token_type_ids: list[int] | None
    outputs: dict[Name, list[Any]]


class Parity(Record):
    """The verification at export: worst absolute difference to torch, exit by exit."""

    atol: float
    rows: Count
    max_abs_diff: list[Number]
    decisions: Count
    decisions_near_threshold: Count


class Source(Record):
    """Where the bundle comes from. `sha256` is that of the weights file(s) read."""

    name: Text
    sha256: Text
    format: Text
    architecture: Text
    paper: Text


class Manifest(Record):
    """Everything a host needs to run the bundle."""

    format: Literal["effbert-bundle"]
    version: tuple[int, int]
    min_reader: tuple[int, int]
    producer: dict[Text, Text]
    source: Source
    task: Task
    problem: Problem | None
    labels: Annotated[list[Text], Meta(max_length=65_536)]
    limits: Limits
    padding_free: bool
    tokenizer: Tokenizer | None
    inputs: Annotated[list[Input], Meta(min_length=1, max_length=16)]
    outputs: Annotated[list[Name], Meta(min_length=1, max_length=16)]
    states: Annotated[list[State], Meta(max_length=32)]
    segments: Annotated[list[Segment], Meta(min_length=1, max_length=64)]
    policy: Policy
    knobs: Annotated[list[Knob], Meta(max_length=32)]
    operating_points: Annotated[list[OperatingPoint], Meta(max_length=256)]
    golden: Annotated[list[Golden], Meta(max_length=16)]
    parity: Parity | None
    files: Annotated[dict[FileName, File], Meta(max_length=128)]

"""The types of the manifest `effbert.json`.

`docs/bundle.md` is the specification; the JSON Schema in `manifest.schema.json` is generated from
the types below.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

FORMAT: Final = "effbert-bundle"
VERSION = (1, 1)

# Python's `$` also matches before a final newline, hence the lookahead.
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$(?!\n)")]
Text = Annotated[str, Meta(max_length=4096)]
Number = int | float | Literal["inf", "-inf", "nan"]
DType = Literal["float32", "int64", "bool"]
Axis = Literal["batch", "sequence", "tokens"] | Annotated[int, Meta(ge=1, le=1 << 20)]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Task = Literal["text-classification", "token-classification", "question-answering"]
Problem = Literal["single-label", "multi-label", "regression"]
Activation = Literal["softmax", "sigmoid", "identity"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8-weight", "int4-weight"]


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all manifest records: immutable, keyword-only, unknown fields refused."""


class File(Record):
    """One file of the bundle: size in bytes and SHA-256 in lower-case hex."""

    size: Annotated[int, Meta(ge=0, le=1 << 40)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


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

    A `per_exit` knob accepts one value, or a list of one value an exit, and so does its `default`.
    `raising` tells what a larger value does to the exits. A knob with a `count` takes one value, or
    a list of as many: one an encoder layer. The unit `tokens` means lengths, which never grow from
    layer to layer: integers count tokens, other numbers are shares of the row's tokens. A knob with
    `choices` is no input of any graph: it selects a variant, by default the largest.
    """

    name: Name
    dtype: Literal["float32", "int64"]
    minimum: Number
    maximum: Number
    default: Number | list[Number]
    never: Number
    per_exit: bool
    raising: Literal["earlier", "later"]
    unit: Literal["tokens"] | None = None
    count: Annotated[int, Meta(ge=1, le=512)] | None = None
    choices: Annotated[list[Number], Meta(min_length=1, max_length=64)] | None = None


class Guarantee(Record):
    """The expected loss against full depth is at most `risk` with probability `confidence`.

    It holds for inputs drawn as the examples were that the operating point was chosen on.
    """

    risk: Annotated[float, Meta(gt=0, lt=1)]
    confidence: Annotated[float, Meta(gt=0, lt=1)]


class Exits(Record):
    """Where the examples leave that an operating point was chosen on.

    `layers` maps the 1-based encoder layer to their number, `signal` is the mean and the standard
    deviation of what the exit policy compares where they leave.
    """

    layers: dict[Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,2}$(?!\n)")], Count]
    signal: tuple[float, Annotated[float, Meta(ge=0)]] | None = None


class OperatingPoint(Record):
    """Knob values with the quality and cost measured at them on the named data."""

    name: Text
    knobs: dict[Name, Number | list[Number]]
    data: Text
    quality: dict[Text, Number] = {}
    cost: dict[Text, Number] = {}
    guarantee: Guarantee | None = None
    exits: Exits | None = None


class Tokenizer(Record):
    """The tokenizer file and what must be true of it.

    `vocab_size` is the highest token id plus one, `max_length` counts special tokens,
    `special_ids` maps their spelling to their id. Texts that are too long lose tokens at
    `truncation_side`. Special tokens that are written in a text are read as such, unless
    `special_tokens_in_text` is false; without `token_types` all token types are zero.
    """

    file: FileName
    vocab_size: Annotated[int, Meta(ge=1, le=2_000_000)]
    max_length: Annotated[int, Meta(ge=2, le=8192)]
    special_ids: dict[Text, Annotated[int, Meta(ge=0, lt=2_000_000)]]
    truncation_side: Literal["right", "left"] = "right"
    special_tokens_in_text: bool = True
    token_types: bool = True


class Limits(Record):
    """What the model accepts: tokens a row, token ids, token types."""

    max_length: Annotated[int, Meta(ge=2, le=8192)]
    vocab_size: Annotated[int, Meta(ge=1, le=2_000_000)]
    type_vocab_size: Annotated[int, Meta(ge=0, le=1024)] = 0
    pad_id: Annotated[int, Meta(ge=0, lt=2_000_000)] = 0
    min_length: Annotated[int, Meta(ge=2, le=8192)] = 2


class Golden(Record):
    """Known answers: token ids of one row, and every exit's outputs for it."""

    text: list[Text] | None
    input_ids: Annotated[list[int], Meta(min_length=2, max_length=8192)]
    token_type_ids: list[int] | None
    outputs: dict[Name, list[Any]]
    word_map: list[int] | None = None


class Variant(Record):
    """Another size of the model, with as many exits; `knobs` holds a value for each selector."""

    knobs: dict[Name, Number]
    segments: Annotated[list[Segment], Meta(min_length=1, max_length=64)]
    golden: Annotated[list[Golden], Meta(max_length=16)] = []


class Parity(Record):
    """The verification at export: worst absolute difference to torch, exit by exit.

    `texts` were tokenized as the checkpoint's own tokenizer does, before anything else.
    `atol` is what was allowed beside a share of each number itself, or, with `--atol`, in all.
    With variants, the worst of all of them, and all their decisions. Below fp32 no difference is
    asked for (`atol` null), but that answers and exit decisions are the same: shares from 0 to 1.
    """

    atol: float | None
    rows: Count
    max_abs_diff: list[Number]
    decisions: Count
    decisions_near_threshold: Count
    same_answers: Annotated[float, Meta(ge=0, le=1)] | None = None
    same_decisions: Annotated[float, Meta(ge=0, le=1)] | None = None
    texts: Count = 0


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
    variants: Annotated[list[Variant], Meta(max_length=64)] = []
    precision: Precision = "fp32"
    activation: Activation | None = None


def to_numbers(value: Number | list[Number]) -> Any:
    """One manifest number, or a list of them; integers stay integers."""
    if isinstance(value, list):
        return [to_numbers(item) for item in value]
    return float(value) if isinstance(value, str) else value


def to_float(value: Number) -> float:
    """Return the float of a manifest number, which may be the string "inf", "-inf" or "nan"."""
    return float(value)

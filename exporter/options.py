"""The options of an export in one record.

The Python function, both commands and the page `docs/options.md` are made from it.
"""

from __future__ import annotations

import dataclasses
import inspect
import operator
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import click

from effbert.exporter.formats import NAMES as FORMAT_NAMES
from effbert.exporter.policies import TABLE as POLICY_TABLE
from effbert.runtime.bundle.manifest import Activation, Precision, Task
from effbert.runtime.console.parameters import KnobSetting, NumberList, split_numbers
from effbert.runtime.errors import InputError

OPSETS = range(18, 24)
TASKS = ("auto", *get_args(Task))
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
BLOCK_BITS = {"int8-weight": 8, "int4-weight": 4}
BLOCKS_SINCE = 21  # opset
WHAT, EXITS, LENGTHS, PRECISION = "What to export", "Exits and sizes", "Lengths", "Precision"
CHECKS, OUTPUT = "Checks", "Output"
FilePath = str | PathLike[str]
KnobDefault = float | int | Sequence[float | int]
Function = TypeVar("Function", bound=Callable[..., Any])


class Meaning(NamedTuple):
    """How people meet an option: its heading, what it does, its form on the command line."""

    group: str
    help: str
    type: click.ParamType | None = None
    metavar: str | None = None
    flag: str | None = None  # the name on the command line, where it differs
    several: bool = False  # may be repeated there


class OnOff(click.Choice):
    """The words `on` and `off` as True and False."""

    def __init__(self) -> None:
        super().__init__(["on", "off"])

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Read one of the words."""
        return value if isinstance(value, bool) else super().convert(value, param, ctx) == "on"


def _option(default: Any, group: str, help: str, **more: Any) -> Any:
    meaning = Meaning(group, f"{help} May be repeated." if more.get("several") else help, **more)
    return field(default=default, metadata={"meaning": meaning})


_PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class ExportOptions:
    """Everything that may be asked of an export; `check` says whether it fits together.

    Python callers may give lists as sequences or as the command line writes them ("4,8,12").
    """

    format: str = _option(
        "auto",
        WHAT,
        "Checkpoint format; auto detects it from tensor names and config.json. `effbert formats` "
        "lists all.",
        type=click.Choice(["auto", *FORMAT_NAMES]),
        metavar="NAME",
    )
    revision: str | None = _option(
        None, WHAT, "Branch, tag or commit of a checkpoint on the hub; its branch main by default.",
        metavar="NAME",
    )  # fmt: skip
    task: str = _option(
        "auto", WHAT, "What the checkpoint was trained for.", type=click.Choice(TASKS)
    )
    tokenizer: FilePath | None = _option(
        None, WHAT, "Folder of the tokenizer, if the checkpoint has none or the wrong one.",
        type=_PATH,
    )  # fmt: skip
    no_tokenizer: bool = _option(
        False, WHAT, "Leave the tokenizer out: the bundle answers token ids only."
    )
    activation: str = _option(
        "auto",
        WHAT,
        "What turns logits into scores; auto is what the checkpoint names, else softmax, sigmoid "
        "for several labels, or the value itself for a regression.",
        type=click.Choice(["auto", *get_args(Activation)]),
    )
    exits: str | Sequence[int] = _option(
        "all",
        EXITS,
        "Encoder layers with exits, counted from 1; the deepest one ends the model. auto keeps the "
        "exits that make texts of --data cheapest.",
        metavar="all|auto|N,N,..",
    )
    data: FilePath | None = _option(
        None, EXITS, "Examples that --exits auto chooses on, such as effbert tune reads.",
        type=_PATH,
    )  # fmt: skip
    max_loss: float = _option(
        0.5,
        EXITS,
        "Percentage points of quality that --exits auto may lose against full depth.",
        type=click.FloatRange(min=0),
        metavar="POINTS",
    )
    policy: str = _option(
        "auto",
        EXITS,
        "Exit policy; auto is the one of the checkpoint's paper. `effbert formats` lists all.",
        type=click.Choice(["auto", *POLICY_TABLE]),
        metavar="NAME",
    )
    knobs: Mapping[str, KnobDefault] | None = _option(
        None,
        EXITS,
        "Default value of a knob, one number or one for each exit; without it nothing exits early.",
        type=KnobSetting(),
        flag="--knob",
        several=True,
    )
    last_highway: bool | None = _option(
        None,
        EXITS,
        "Consult the highway after the last layer (DeeBERT, BERxiT); by default as the paper does.",
        type=OnOff(),
    )
    layers: str | Sequence[int] | None = _option(
        None,
        EXITS,
        "Encoder layers to run, such as 1,3,5, or how many to drop by the rule top, bottom, "
        "alternate or symmetric; for checkpoints with one exit.",
        metavar="N,N,..|RULE:K",
    )
    widths: str | Sequence[float] | None = _option(
        None,
        EXITS,
        "Shares of the heads and neurons of a layer, such as 0.5,0.75,1; every combination with "
        "--depths becomes a variant of the bundle (DynaBERT).",
        metavar="F,F,..",
    )
    depths: str | Sequence[float] | None = _option(
        None, EXITS, "Shares of the encoder layers, such as 0.5,0.75,1.", metavar="F,F,.."
    )
    mask_threshold: float | None = _option(
        None,
        WHAT,
        "Turns the scores of movement pruning into masks: the final_threshold of the training, "
        "which its checkpoints do not store.",
        type=click.FLOAT,
    )
    length_adaptive: bool = _option(
        False, LENGTHS, "Add the knob `lengths`: how many tokens leave each layer."
    )
    keep_cls: str = _option(
        "auto",
        LENGTHS,
        "Never drop the first token; auto drops it for question answering only.",
        type=click.Choice(["auto", "yes", "no"]),
    )
    retention: str | Sequence[int] | None = _option(
        None,
        LENGTHS,
        "PoWER-BERT's number of tokens left after each layer; implies --length-adaptive.",
        type=NumberList(1, 8192, "64,40,20"),
        metavar="N,N,..",
    )
    pad_to: int | None = _option(
        None,
        LENGTHS,
        "Pad every row to N tokens inside the graph, and let padding take part as in the papers' "
        "code; needs --length-adaptive or --retention.",
        type=click.IntRange(min=2),
        metavar="N",
    )
    precision: str = _option(
        "fp32",
        PRECISION,
        "fp16 and bf16 store weights in 16 bits; int8 computes on integers with fixed scales; "
        "int8-weight and int4-weight store weights in blocks.",
        type=click.Choice(PRECISIONS),
    )
    calibration: FilePath | None = _option(
        None,
        PRECISION,
        "Texts to choose int8 scales on: a .csv with the column text, or one text a line.",
        type=_PATH,
    )
    keep_float: str | Sequence[str] = _option(
        (),
        PRECISION,
        "Part of the model to leave in float32, such as encoder.layer.3.output.",
        metavar="MODULE",
        several=True,
    )
    min_agreement: float = _option(
        0.9,
        PRECISION,
        "Below fp32: the smallest share of answers and exit decisions that must equal torch's.",
        type=click.FLOAT,
    )
    opset: int = _option(
        23,
        PRECISION,
        "ONNX opset, 18 to 23. Below 23, attention is written in simple operators.",
        type=click.INT,
    )
    verify: bool = _option(
        True, CHECKS, "Compare every exit with torch before the bundle appears.", type=click.BOOL
    )
    atol: float | None = _option(
        None,
        CHECKS,
        "Largest absolute difference to torch; by default 1e-4 of the answers' scale (MobileBERT: "
        "2e-3), below fp32 any.",
        type=click.FLOAT,
    )
    samples: FilePath | None = _option(
        None,
        CHECKS,
        "Texts to verify on: one a line with a tab between the texts of a pair, or a .csv.",
        type=_PATH,
    )
    fit_temperature: FilePath | None = _option(
        None,
        CHECKS,
        "A .csv with the columns text and label, to fit one temperature for each exit on.",
        type=_PATH,
    )
    dry_run: bool = _option(False, OUTPUT, "Detect and load only; write nothing.")
    force: bool = _option(False, OUTPUT, "Replace an existing bundle.")

    def check(self) -> None:
        """Refuse values that do not exist or do not fit each other.

        Raises:
            InputError: Says which, and what would fit.
        """
        activations = ("auto", *get_args(Activation))
        for name, known in (
            ("task", TASKS),
            ("precision", PRECISIONS),
            ("activation", activations),
        ):
            if getattr(self, name) not in known:
                raise InputError(
                    f"There is no {name} {getattr(self, name)}; choose one of {', '.join(known)}."
                )
        if self.opset not in OPSETS:
            raise InputError(
                f"Opset {self.opset} is not supported; choose {OPSETS[0]}..{OPSETS[-1]}."
            )
        if self.atol is not None and not 0 < self.atol < float("inf"):
            raise InputError(f"The tolerance must be positive, got {self.atol}.")
        if self.no_tokenizer and self.tokenizer is not None:
            raise InputError("--tokenizer and --no-tokenizer exclude each other.")
        if self.pad_to is not None and not self.drops_tokens:
            raise InputError("--pad-to needs --length-adaptive or --retention.")
        self._check_auto()
        self._check_precision()

    def _check_auto(self) -> None:
        if (self.exits == "auto") != (self.data is not None):
            raise InputError("--exits auto and --data belong together; give both or neither.")
        if self.exits != "auto":
            return
        if not 0 <= self.max_loss < float("inf"):
            raise InputError(f"--max-loss is a number of points from 0 on, got {self.max_loss}.")
        if self.dry_run or self.no_tokenizer:
            raise InputError(
                "--exits auto answers examples with the exported model; leave --dry-run and "
                "--no-tokenizer out."
            )
        if any(isinstance(value, list | tuple) for value in (self.knobs or {}).values()):
            raise InputError("--exits auto takes one value of a knob, not one for each exit.")

    def _check_precision(self) -> None:
        blocks = self.precision in BLOCK_BITS
        if self.calibration is not None and self.precision != "int8":
            raise InputError("--calibration belongs to --precision int8, nothing else needs it.")
        if self.keep_float and self.precision != "int8" and not blocks:
            raise InputError(f"--keep-float has no meaning with --precision {self.precision}.")
        if blocks and self.opset < BLOCKS_SINCE:
            raise InputError(f"--precision {self.precision} needs --opset {BLOCKS_SINCE} or more.")
        if not 0 <= self.min_agreement <= 1:
            raise InputError(f"--min-agreement is a share from 0 to 1, got {self.min_agreement}.")

    @property
    def drops_tokens(self) -> bool:
        """Whether the bundle gets the knob `lengths`."""
        return self.length_adaptive or self.retention is not None

    @property
    def float_modules(self) -> tuple[str, ...]:
        """The modules that stay in float32."""
        return (self.keep_float,) if isinstance(self.keep_float, str) else tuple(self.keep_float)

    @property
    def kept_tokens(self) -> tuple[int, ...] | None:
        """PoWER-BERT's counts, one for each layer; None where there are none.

        Raises:
            InputError: They are no counts.
        """
        if self.retention is None:
            return None
        try:
            return tuple(int(count) for count in split_numbers(self.retention, int))
        except ValueError as error:
            raise InputError(
                f"Retention is a list of counts such as 64,40,20; got {self.retention!r:.40}."
            ) from error

    @property
    def exit_layers(self) -> tuple[int, ...] | None:
        """The layers with exits, counted from 1; None for all.

        Raises:
            InputError: They are no such numbers.
        """
        if self.exits == "all":
            return None
        try:
            if isinstance(self.exits, str):
                layers = tuple(int(layer) for layer in split_numbers(self.exits, int))
            else:
                layers = tuple(
                    int(each) if isinstance(each, str) else operator.index(each)
                    for each in self.exits
                )
        except (TypeError, ValueError):
            layers = ()
        if not layers or min(layers) < 1:
            raise InputError(
                f"Exits are `all`, `auto` or 1-based layers such as 2,4,6; got {self.exits!r:.40}."
            )
        return layers


def path_of(value: FilePath | None) -> Path | None:
    """Turn what a caller gives for a file into a path."""
    return None if value is None else Path(value)


def meanings() -> Iterator[tuple[dataclasses.Field[Any], Meaning]]:
    """Give every option with its meaning, in the order of `--help`."""
    for each in dataclasses.fields(ExportOptions):
        yield each, each.metadata["meaning"]


def flag_of(each: dataclasses.Field[Any], meaning: Meaning) -> str:
    """Write an option as the command line does."""
    return meaning.flag or f"--{each.name.replace('_', '-')}"


def with_options(function: Function) -> Function:
    """Give a function that takes the fields of `ExportOptions` as keywords their signature.

    The line of its docstring that describes `**options` becomes one for each of them.
    """
    own = inspect.signature(function)
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters += [
        inspect.Parameter(each.name, keyword, default=each.default, annotation=each.type)
        for each, _ in meanings()
    ]
    lines = [
        textwrap.fill(
            f"{each.name}: {meaning.help}", 100, initial_indent=" " * 8, subsequent_indent=" " * 12
        )
        for each, meaning in meanings()
    ]
    function.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    doc = function.__doc__ or ""
    function.__doc__ = re.sub(r"^ +\*\*options:.*$", "\n".join(lines), doc, flags=re.MULTILINE)
    return function

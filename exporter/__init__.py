"""Checkpoint in, bundle out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effbert.exporter.pipeline import Report

__all__ = ["export"]


def export(
    checkpoint: str | PathLike[str],
    bundle: str | PathLike[str],
    *,
    format: str = "auto",
    task: str = "auto",
    exits: str | Sequence[int] = "all",
    policy: str = "auto",
    knobs: Mapping[str, float | int | Sequence[float | int]] | None = None,
    last_highway: bool | None = None,
    length_adaptive: bool = False,
    keep_cls: str = "auto",
    retention: Sequence[int] | None = None,
    pad_to: int | None = None,
    layers: str | Sequence[int] | None = None,
    widths: str | Sequence[float] | None = None,
    depths: str | Sequence[float] | None = None,
    opset: int = 23,
    precision: str = "fp32",
    calibration: str | PathLike[str] | None = None,
    keep_float: Sequence[str] = (),
    min_agreement: float = 0.9,
    verify: bool = True,
    atol: float | None = None,
    samples: str | PathLike[str] | None = None,
    fit_temperature: str | PathLike[str] | None = None,
    tokenizer: str | PathLike[str] | None = None,
    dry_run: bool = False,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Export a checkpoint to a bundle.

    Args:
        checkpoint: folder, weights file with config.json beside it, or hub id.
        bundle: the folder to make; it appears complete or not at all.
        format: checkpoint format, `auto` to detect it from tensor names and config.
        task: `auto`, `text-classification`, `token-classification` or `question-answering`.
        exits: `all`, or 1-based encoder layers with trained exits; the deepest is the last exit.
        policy: exit policy, `auto` for the one of the checkpoint's paper.
        knobs: default knob values stored in the bundle, beside those that the checkpoint brings;
            without either nothing exits early. A per-exit knob takes one value or one an exit.
        last_highway: whether the highway after the last layer is consulted (DeeBERT, BERxiT); None
            is the paper's own way.
        layers: encoder layers to run in a checkpoint with one exit, None for all: 1-based numbers,
            or `top:K`, `bottom:K`, `alternate:K`, `symmetric:K` to leave K of them out.
        widths: shares of each layer's heads and neurons, such as 0.5,0.75,1: with `depths`, each
            combination becomes a variant of the bundle, selected by the knobs `width` and `depth`
            (DynaBERT).
        depths: shares of the encoder layers, such as 0.5,0.75,1.
        length_adaptive: give the bundle the knob `lengths`: how many tokens leave each layer.
        keep_cls: `yes`, `no` or `auto`: whether the first token is never dropped; auto drops it for
            question answering only.
        retention: PoWER-BERT's retention configuration, one count a layer: length-adaptive with its
            rule, and these as default.
        pad_to: pad every row to this many tokens inside the graph, and let padding vote and be kept
            as the code of both papers does; needs `length_adaptive` or `retention`.
        opset: ONNX opset of the segments, 18 to 23; below 23, attention is spelled out in simple
            operators.
        precision: what weights are stored and products computed in: `fp32`; `fp16` and `bf16` store
            16 bits; `int8` computes the products of layers and poolers on integers, with scales
            that are fixed here; `int8-weight` and `int4-weight` store blocks of so many bits.
        calibration: texts that int8 scales are chosen on, a CSV file with a column text or a file
            with one text a line; the sentences that ship with effbert by default.
        keep_float: modules that stay in float32, such as encoder.layer.3.output.dense.
        min_agreement: below fp32, the smallest share of answers and exit decisions that must be
            those of torch.
        verify: compare every exit with torch before the bundle appears.
        atol: largest difference allowed, the family's own by default (1e-4; MobileBERT 2e-3; below
            fp32 any).
        samples: UTF-8 file with one text a line to verify on, pairs separated by a tab.
        fit_temperature: CSV file with the columns text and label (and pair for second texts) to
            fit the default of the knob `temperature` on, one an exit.
        tokenizer: folder of the tokenizer where the checkpoint has none or the wrong one.
        dry_run: detect and load only; nothing is written.
        force: replace an existing bundle.
        progress: called with a phrase before each step.

    Returns:
        What was exported, with the manifest and the parity measured.

    Raises:
        ExportError: the checkpoint cannot be exported; ParityError: it was, but differs from torch;
            AgreementError: the precision changes too many answers or decisions.
        InputError: an option does not fit.
        ResourceError: the disk is full or refuses to be written.
    """
    from effbert.exporter.encoders.length_adaptive import LengthOptions
    from effbert.exporter.pipeline import Options, run_export
    from effbert.exporter.precision.lowering import PrecisionOptions
    from effbert.runtime.errors import InputError

    lengths = None
    if length_adaptive or retention is not None:
        lengths = LengthOptions(keep_cls, None if retention is None else tuple(retention), pad_to)
    elif pad_to is not None:
        raise InputError("--pad-to needs --length-adaptive or --retention.")
    options = Options(
        format=format,
        task=task,
        exits=exits,
        policy=policy,
        knobs=dict(knobs or {}),
        last_highway=last_highway,
        lengths=lengths,
        layers=layers,
        widths=widths,
        depths=depths,
        opset=opset,
        precision=PrecisionOptions(
            precision,
            None if calibration is None else Path(calibration),
            tuple(keep_float),
            min_agreement,
        ),
        verify=verify,
        atol=atol,
        samples=None if samples is None else Path(samples),
        fit_temperature=None if fit_temperature is None else Path(fit_temperature),
        tokenizer=None if tokenizer is None else Path(tokenizer),
        dry_run=dry_run,
        force=force,
    )
    return run_export(str(checkpoint), Path(bundle), options, progress or (lambda phrase: None))

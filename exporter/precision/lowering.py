"""`--precision`: how the weights of a bundle are stored, and what its products are computed in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import onnx_ir as ir

from effbert.exporter.precision.ranges import Loss, calibrate
from effbert.exporter.rows.rows import Row, bundle_rows, random_rows, sample_texts
from effbert.graph_passes.int8 import quantize_products
from effbert.graph_passes.products import Product, weighted_products
from effbert.graph_passes.share import merge_weights
from effbert.graph_passes.stored import HALVES, store_blocks, store_halves, store_tables
from effbert.runtime import Bundle, read_texts
from effbert.runtime.bundle.manifest import Manifest, Precision
from effbert.runtime.bundle.variants import split_variants
from effbert.runtime.errors import InputError

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
BITS = {"int8-weight": 8, "int4-weight": 4}
BLOCKS_SINCE = 21  # opset
MOST_TOKENS = 1 << 15  # to calibrate on
LOSES_TOO_MUCH = 0.2  # error of a product over its output, above which it stays in float32


@dataclass(frozen=True)
class PrecisionOptions:
    """What is asked for; `keep_float` names modules, such as encoder.layer.3.output.dense."""

    precision: Precision | str = "fp32"
    calibration: Path | None = None
    keep_float: tuple[str, ...] = ()
    floor: float = 0.9

    def check(self, opset: int) -> None:
        """Raises InputError for options that do not fit each other."""
        if self.precision not in PRECISIONS:
            raise InputError(
                f"There is no precision {self.precision}; choose one of {', '.join(PRECISIONS)}."
            )
        if self.calibration is not None and self.precision != "int8":
            raise InputError("--calibration belongs to --precision int8, nothing else needs it.")
        if self.keep_float and self.precision not in ("int8", *BITS):
            raise InputError(f"--keep-float has no meaning with --precision {self.precision}.")
        if self.precision in BITS and opset < BLOCKS_SINCE:
            raise InputError(f"--precision {self.precision} needs --opset {BLOCKS_SINCE} or more.")
        if not 0 <= self.floor <= 1:
            raise InputError(f"--min-agreement is a share from 0 to 1, got {self.floor}.")


@dataclass(frozen=True)
class Lowered:
    """What int8 did: the losses of products, worst first, and those that would lose too much."""

    losses: Sequence[Loss] = ()
    lossy: Sequence[str] = ()

    def notes(self, options: PrecisionOptions) -> Iterator[str]:
        """Sentences for the user."""
        if self.lossy:
            yield (
                f"{', '.join(self.lossy)} stayed in float32: in int8 more than "
                f"{100 * LOSES_TOO_MUCH:.0f} % of their output would be error."
            )
        if options.precision == "int8" and options.calibration is None:
            yield (
                "The scales of int8 were chosen on sentences that ship with effbert; --calibration "
                "FILE with texts like yours chooses better ones."
            )


def lower_variants(
    variants: Sequence[Sequence[ir.Model]], bundle: Bundle, options: PrecisionOptions
) -> list[Lowered]:
    """Give the segments of every variant the precision asked for, in place.

    Args:
        variants: the float32 graphs of each; variants may share them.
        bundle: the tokenizer, and the manifest of the float32 segments.
        options: what is asked for.

    Returns:
        For each variant what it cost.

    Raises:
        InputError: an option does not fit the model, or the calibration file cannot be used.
    """
    rows: list[Row] = []
    if options.precision == "int8":
        rows = _calibration_rows(bundle, options.calibration)
    done: dict[int, Lowered] = {}
    for models, manifest in zip(variants, split_variants(bundle.manifest), strict=True):
        if id(models[0]) not in done:
            done[id(models[0])] = lower_precision(models, manifest, options, rows)
    if options.precision != "fp32":
        merge_weights([model for models in variants for model in models], {})
    return [done[id(models[0])] for models in variants]


def _calibration_rows(bundle: Bundle, path: Path | None) -> list[Row]:
    """Rows of the texts in a file, else of our sentences."""
    rows = bundle_rows(bundle, read_texts(path) if path is not None else sample_texts(None))
    if path is not None and not rows:
        raise InputError(f"{path} holds no text that the tokenizer of this checkpoint can read.")
    rows = rows or random_rows(bundle.manifest.limits)
    tokens = sum(len(row.input_ids) for row in rows)
    return rows[:: -(-tokens // MOST_TOKENS)]


def lower_precision(
    models: Sequence[ir.Model],
    manifest: Manifest,
    options: PrecisionOptions,
    rows: Sequence[Row],
) -> Lowered:
    """As `lower_variants`, for one variant; int8 is calibrated on the rows."""
    if options.precision == "fp32":
        return Lowered()
    if options.precision in HALVES:
        for model in models:
            store_halves(model, options.precision)
        return Lowered()
    every = [weighted_products(model) for model in models]
    _check_names(options.keep_float, every)
    wanted = [[p for p in several if not _named(p, options.keep_float)] for several in every]
    lowered = Lowered()
    if options.precision in BITS:
        for model, products in zip(models, wanted, strict=True):
            store_blocks(model, products, BITS[options.precision])
    else:
        lowered = _to_int8(models, manifest, wanted, rows)
    for model in models:
        store_tables(model)
    return lowered


def _to_int8(
    models: Sequence[ir.Model],
    manifest: Manifest,
    wanted: Sequence[Sequence[Product]],
    rows: Sequence[Row],
) -> Lowered:
    found = calibrate(manifest, models, wanted, rows)
    losses = sorted((loss for each in found for loss in each.losses), key=lambda loss: -loss.error)
    bad = {loss.product for loss in losses if loss.error > LOSES_TOO_MUCH}
    for model, products, each in zip(models, wanted, found, strict=True):
        chosen = [product for product in products if product.name not in bad]
        quantize_products(model, chosen, each.ranges, each.weights)
    return Lowered([loss for loss in losses if loss.product not in bad], sorted(bad))


def _named(product: Product, names: Sequence[str]) -> bool:
    """Tell whether a product is named, or the module that it is part of."""
    return any(product.name == name or product.name.startswith(f"{name}.") for name in names)


def _check_names(names: Sequence[str], every: Sequence[Sequence[Product]]) -> None:
    known = [product for several in every for product in several]
    for name in names:
        if not any(_named(product, [name]) for product in known):
            example = known[-1].name if known else "none"
            raise InputError(
                f"--keep-float {name} is no matrix product of this model; names look like "
                f"{example}, or are the beginning of several such as encoder.layer.0."
            )

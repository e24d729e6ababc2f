"""`--precision`: how the weights of a bundle are stored, and what its products are computed in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from effbert.exporter.options import BLOCK_BITS, ExportOptions, path_of
from effbert.exporter.precision.ranges import Loss, calibrate
from effbert.exporter.rows.rows import Row, bundle_rows, file_texts, random_rows, sample_rows
from effbert.graph_passes.int8 import quantize_products
from effbert.graph_passes.products import Product, weighted_products
from effbert.graph_passes.share import merge_weights
from effbert.graph_passes.stored import HALVES, store_blocks, store_halves, store_tables
from effbert.runtime import Bundle
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.errors import InputError

MOST_TOKENS = 1 << 15  # to calibrate on
LOSES_TOO_MUCH = 0.2  # error of a product over its output, above which it stays in float32


@dataclass(frozen=True)
class Lowered:
    """What lowering did to one model.

    Attributes:
        losses: What int8 costs each product, worst first.
        lossy: Products that would lose too much, and stayed in float32.
        products: For each segment how many products were lowered; with 16 bits, how many weights.
    """

    losses: Sequence[Loss] = ()
    lossy: Sequence[str] = ()
    products: Sequence[int] = ()


def lowering_notes(lowered: Lowered, options: ExportOptions) -> Iterator[str]:
    """Say what stayed in float32, and how int8 could do better."""
    if lowered.lossy:
        yield (
            f"{', '.join(lowered.lossy)} stayed in float32: in int8 more than "
            f"{100 * LOSES_TOO_MUCH:.0f} % of their output would be error."
        )
    if options.precision == "int8" and options.calibration is None:
        yield (
            "The scales of int8 were chosen on sentences that ship with effbert; --calibration "
            "FILE with texts like yours chooses better ones."
        )


def lower_models(
    models: Sequence[Sequence[ir.Model]],
    manifests: Sequence[Manifest],
    bundle: Bundle,
    options: ExportOptions,
) -> list[Lowered]:
    """Give the segments of every model the precision asked for, in place.

    Args:
        models: The float32 graphs of each.
        manifests: For each model the manifest of a bundle of its segments alone.
        bundle: The tokenizer, for texts to calibrate on.
        options: What is asked for.

    Returns:
        For each model what was done.

    Raises:
        InputError: An option does not fit the model, or the calibration file cannot be used.
    """
    rows: list[Row] = []
    if options.precision == "int8":
        rows = _calibration_rows(bundle, path_of(options.calibration))
    lowered = [
        _lower(graphs, manifest, options, rows)
        for graphs, manifest in zip(models, manifests, strict=True)
    ]
    merge_weights([graph for graphs in models for graph in graphs], {})
    return lowered


def _calibration_rows(bundle: Bundle, path: Path | None) -> list[Row]:
    """Rows of the texts in a file, else of our sentences."""
    rows = sample_rows(bundle) if path is None else bundle_rows(bundle, file_texts(path))
    if path is not None and not rows:
        raise InputError(f"{path} holds no text that the tokenizer of this checkpoint can read.")
    rows = rows or random_rows(bundle.manifest.limits)
    tokens = sum(len(row.input_ids) for row in rows)
    return rows[:: -(-tokens // MOST_TOKENS)]


def _lower(
    models: Sequence[ir.Model],
    manifest: Manifest,
    options: ExportOptions,
    rows: Sequence[Row],
) -> Lowered:
    """As `lower_models`, for one; int8 is calibrated on the rows."""
    if options.precision in HALVES:
        return Lowered(products=[store_halves(model, options.precision) for model in models])
    every = [weighted_products(model) for model in models]
    _check_names(options.float_modules, every)
    wanted = [[p for p in several if not _named(p, options.float_modules)] for several in every]
    if options.precision in BLOCK_BITS:
        bits = BLOCK_BITS[options.precision]
        stored = [store_blocks(*pair, bits) for pair in zip(models, wanted, strict=True)]
        lowered = Lowered(products=stored)
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
    lowered = []
    for model, products, each in zip(models, wanted, found, strict=True):
        chosen = [product for product in products if product.name not in bad]
        lowered.append(quantize_products(model, chosen, each.ranges, each.weights))
    return Lowered([loss for loss in losses if loss.product not in bad], sorted(bad), lowered)


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

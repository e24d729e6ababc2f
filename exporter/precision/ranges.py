"""What int8 may keep of each activation: measured on real rows, chosen by what products lose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from effbert.exporter.precision.rounding import error_spread, round_with
from effbert.exporter.rows.batching import equal_lengths, padded_batch
from effbert.exporter.rows.rows import Row
from effbert.graph_passes.int8 import Range, Weight, quantize_weight
from effbert.graph_passes.products import Product
from effbert.runtime import record_segments
from effbert.runtime.bundle.manifest import Manifest

SAMPLE = 1024  # vectors of an activation that weights are rounded for
EVERY = 4  # of these so many are enough to compare ranges
Tensors = Mapping[str, np.ndarray]
CLIPPED = (1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # of the largest absolute value


class Loss(NamedTuple):
    """What int8 makes of a product: the error of its output over the output, both as norms."""

    segment: str
    product: str
    error: float


@dataclass
class Seen:
    """What was seen of one activation: its extremes, and a sample of its vectors."""

    lowest: float = 0.0
    highest: float = 0.0
    vectors: list[np.ndarray] = field(default_factory=list)

    def add(self, values: np.ndarray, stride: int) -> None:
        """Take in float32 [rows, tokens, features], and keep every so many vectors."""
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        self.vectors.append(values.reshape(-1, values.shape[-1])[::stride].copy())

    def candidates(self) -> Iterator[Range]:
        """Yield the whole range, and ranges clipped further and further."""
        largest = max(-self.lowest, self.highest)
        for share in CLIPPED:
            bound = share * largest
            yield Range(max(self.lowest, -bound), min(self.highest, bound))


class Calibration(NamedTuple):
    """What int8 needs to know of a segment: see `graph_passes.int8.quantize_products`."""

    ranges: dict[str, Range]
    weights: dict[str, Weight]
    losses: list[Loss]


def calibrate(
    manifest: Manifest,
    models: Sequence[ir.Model],
    products: Sequence[Sequence[Product]],
    rows: Sequence[Row],
) -> list[Calibration]:
    """Run rows through every segment; choose ranges for activations, and round weights.

    Args:
        manifest: Of the float32 segments, one variant.
        models: Their graphs.
        products: For each segment those to be quantized.
        rows: Rows of token ids; no row leaves early.
    """
    seen = [{str(p.activation.name): Seen() for p in several} for several in products]
    _run(manifest, models, seen, rows)
    uses = Counter(p.weight.const_value for several in products for p in several)
    shared = {each for each, times in uses.items() if times > 1}
    return [
        _calibration(record.file, several, names, shared)
        for record, several, names in zip(manifest.segments, products, seen, strict=True)
    ]


def _run(
    manifest: Manifest,
    models: Sequence[ir.Model],
    seen: Sequence[dict[str, Seen]],
    rows: Sequence[Row],
) -> None:
    stride = sum(len(row.input_ids) for row in rows) // SAMPLE + 1
    inputs = [item.name for item in manifest.inputs]
    shown = [_showing(model, names) for model, names in zip(models, seen, strict=True)]
    batches = (  # no padding, whose values would count
        padded_batch([rows[i] for i in members], manifest.limits.pad_id, inputs)
        for members in equal_lengths(rows)
    )

    def observe(index: int, feeds: Tensors, out: Tensors) -> None:
        for name, each in seen[index].items():
            each.add(feeds[name] if name in feeds else out[name], stride)

    record_segments(manifest, shown, batches, observe)


def _calibration(
    file: str, products: Sequence[Product], names: Mapping[str, Seen], shared: Container[object]
) -> Calibration:
    found = Calibration({}, {}, [])
    for name, seen in names.items():
        vectors = np.concatenate(seen.vectors)
        spread = error_spread(vectors)
        readers = [product for product in products if product.activation.name == name]
        for product in readers:
            # Layers that share a weight keep sharing it, whatever they multiply it with.
            alone = product.weight.const_value not in shared
            found.weights[str(product.weight.name)] = (
                round_with(spread, product.matrix) if alone else quantize_weight(product.matrix)
            )
        chosen, errors = _best(seen, vectors[::EVERY], readers, found.weights)
        found.ranges[name] = chosen
        found.losses.extend(
            Loss(file, product.name, error) for product, error in zip(readers, errors, strict=True)
        )
    return found


def _best(
    seen: Seen, vectors: np.ndarray, readers: Sequence[Product], weights: Mapping[str, Weight]
) -> tuple[Range, list[float]]:
    """Return the range that costs the products of an activation least, and what it costs each."""
    exact = [vectors @ product.matrix for product in readers]
    rounded = [levels * scales for levels, scales in (weights[str(p.weight.name)] for p in readers)]
    best: tuple[Range, list[float]] | None = None
    for candidate in seen.candidates():
        values = candidate.rounded(vectors)
        errors = [
            float(np.linalg.norm(values @ weight - right) / (np.linalg.norm(right) or 1))
            for weight, right in zip(rounded, exact, strict=True)
        ]
        if best is None or sum(errors) < sum(best[1]):
            best = candidate, errors
    assert best is not None
    return best


def _showing(model: ir.Model, names: Mapping[str, Seen]) -> bytes:
    """Return the ONNX file of a segment with some of its values as outputs too."""
    graph, known = model.graph, {*model.graph.inputs, *model.graph.outputs}
    values = [value for node in graph for value in node.outputs if value.name in names]
    added = [value for value in values if value not in known]
    graph.outputs.extend(added)
    try:
        return ir.to_proto(model).SerializeToString()
    finally:
        for value in added:
            graph.outputs.remove(value)

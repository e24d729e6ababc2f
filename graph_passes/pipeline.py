"""The passes in their order: traced graph in, segments out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass

from effbert.graph_passes.attention import fuse_attention
from effbert.graph_passes.attention_biases import fold_attention_biases
from effbert.graph_passes.cut import CutSegment, Exit, cut
from effbert.graph_passes.deduplicate import deduplicate_weights
from effbert.graph_passes.dimensions import name_dimensions
from effbert.graph_passes.gather_rows import gather_rows
from effbert.graph_passes.one_token import compute_one_token
from effbert.graph_passes.reshape import constant_reshapes
from effbert.graph_passes.residuals import sum_residuals
from effbert.graph_passes.transposes import fold_weight_transposes


def remove_unused(model: ir.Model) -> None:
    """Drop nodes and weights that no output needs."""
    RemoveUnusedNodesPass()(model)


CLEAN: tuple[Callable[[ir.Model], None], ...] = (
    name_dimensions,
    constant_reshapes,
    sum_residuals,
    gather_rows,
    fold_weight_transposes,
    remove_unused,
    deduplicate_weights,
)


def segment(model: ir.Model, exits: Sequence[Exit]) -> list[CutSegment]:
    """Clean a traced graph, in place, cut it at its exits, and leave out what no exit reads."""
    for clean in CLEAN:
        clean(model)
    segments = cut(model, exits)
    for each in segments:
        compute_one_token(each.model)
        fuse_attention(each.model)
        fold_attention_biases(each.model)
        CommonSubexpressionEliminationPass()(each.model)
    return segments

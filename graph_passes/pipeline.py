"""Every stage between a traced graph and finished segments, in order.

1. `clean`, over the whole graph: the stages of `CLEAN`.
2. `cut.cut`: one graph for each exit.
3. `finish`, over each segment: the stages of `FINISH`.
4. `attach.attach_policy`: signal, comparison and states of the exit policy.
5. `module_names.name_after_modules`: names that people can read.
6. Precision, where one below float32 is asked for: `int8.quantize_products`, `stored.store_blocks`,
   `stored.store_halves`, `stored.store_tables`.
7. `share.share_weights`: weights that several segments read, into one file.
8. Per target, when a finished bundle is compiled: the stages of `prepare`.

A stage returns how much it changed, so that a report can say what happened to a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass

from effbert.graph_passes.attention import fuse_attention
from effbert.graph_passes.attention_biases import fold_attention_biases
from effbert.graph_passes.deduplicate import deduplicate_weights
from effbert.graph_passes.dimensions import name_dimensions
from effbert.graph_passes.gather_rows import gather_rows
from effbert.graph_passes.one_token import compute_one_token
from effbert.graph_passes.reshape import constant_reshapes
from effbert.graph_passes.residuals import sum_residuals
from effbert.graph_passes.transposes import fold_weight_transposes

Stage = Callable[[ir.Model], int]


def remove_unused(model: ir.Model) -> int:
    """Drop nodes and weights that no output needs, in place; returns how many nodes."""
    before = len(model.graph)
    RemoveUnusedNodesPass()(model)
    return before - len(model.graph)


def share_subexpressions(model: ir.Model) -> int:
    """Compute equal expressions once, in place; returns how many nodes that saves."""
    before = len(model.graph)
    CommonSubexpressionEliminationPass()(model)
    return before - len(model.graph)


CLEAN: Mapping[str, Stage] = {
    "dimensions named": name_dimensions,
    "constant reshapes": constant_reshapes,
    "residual sums": sum_residuals,
    "whole rows gathered": gather_rows,
    "weight transposes folded": fold_weight_transposes,
    "unused nodes": remove_unused,
    "equal weights": deduplicate_weights,
}
FINISH: Mapping[str, Stage] = {
    "first token only": compute_one_token,
    "attention fused": fuse_attention,
    "attention biases folded": fold_attention_biases,
    "common subexpressions": share_subexpressions,
}


def clean(model: ir.Model) -> dict[str, int]:
    """Clean a traced graph, in place.

    Returns:
        Stage -> how much it changed.
    """
    return {name: stage(model) for name, stage in CLEAN.items()}


def finish(model: ir.Model) -> dict[str, int]:
    """Rewrite one segment for speed, in place.

    Returns:
        Stage -> how much it changed.
    """
    return {name: stage(model) for name, stage in FINISH.items()}

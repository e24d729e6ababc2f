"""Write softmax attention as the one operator that opset 23 has for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase, RewriteRuleSet

OPSET = 23  # the first with Attention
COPY = 0  # in the shape of a Reshape: this extent stays
TO_HEADS, TO_COLUMNS = (0, 2, 1, 3), (0, 2, 3, 1)


def fuse_attention(model: ir.Model) -> int:
    """Replace the nodes between projections and output of an attention by one, in place.

    Before: heads split off by Reshape and Transpose, `Softmax(query @ key * scale + mask) @ value`,
    heads put together again. After: `Attention(query, key, value, mask)` on [batch, tokens, heads *
    size]. Graphs of an older opset stay as they are.

    Returns:
        How many attentions were fused.
    """
    if model.opset_imports.get("", 0) < OPSET:
        return 0
    fused = RewriteRuleSet([_AttentionRule.rule()]).apply_to_model(model)
    RemoveUnusedNodesPass()(model)
    return fused


def count_attentions(model: ir.Model) -> int:
    """Count the attentions of a graph, fused or not: softmaxes over axes with heads."""
    return sum(
        node.op_type == "Attention" or (node.op_type == "Softmax" and _has_heads(node))
        for node in model.graph
    )


def _has_heads(node: ir.Node) -> bool:
    shape = node.outputs[0].shape
    return shape is not None and shape.rank() == 4


class _AttentionRule(RewriteRuleClassBase):
    """The pattern as transformers' eager attention gives it.

    It starts behind the Reshapes that split heads off, which others may read too.
    """

    def pattern(
        self, op: Any, query: Any, key: Any, value: Any, mask: Any, scale: Any, together: Any
    ) -> Any:
        queries = op.Transpose(query, perm=TO_HEADS)
        keys = op.Transpose(key, perm=TO_COLUMNS)
        values = op.Transpose(value, perm=TO_HEADS)
        scores = op.MatMul(queries, keys) * scale + mask
        context = op.MatMul(op.Softmax(scores, axis=-1), values)
        return op.Reshape(op.Transpose(context, perm=TO_HEADS), together)

    def check(
        self,
        context: Any,
        query: ir.Value,
        key: ir.Value,
        value: ir.Value,
        mask: ir.Value,
        scale: ir.Value,
        together: ir.Value,
        **_: Any,
    ) -> MatchResult:
        del context
        result = MatchResult()
        splits = [_heads(each) for each in (query, key, value)]
        joined, factor = _constant(together), _constant(scale)
        if factor is None or factor.size != 1 or factor.item() <= 0:
            return result.fail("the scale is not a positive number")
        if joined is None or any(split is None for split in splits):
            return result.fail("the heads are not constant")
        split = splits[0].tolist()
        if any(each.tolist() != split for each in splits) or split[:2] != [COPY, COPY]:
            return result.fail("query, key and value have different heads")
        heads, size = split[2:]
        joins = [COPY, COPY, -1], [COPY, COPY, heads * size]
        if min(heads, size) < 1 or joined.tolist() not in joins:
            return result.fail("heads are not put together as they were split")
        whole = _whole(query)
        if whole.shape is None or whole.shape.rank() != 3 or not _masks(mask, whole):
            return result.fail("the mask's extents do not fit, or are not known")
        return result

    def rewrite(
        self,
        op: Any,
        query: ir.Value,
        key: ir.Value,
        value: ir.Value,
        mask: ir.Value,
        scale: ir.Value,
        **_: Any,
    ) -> ir.Value:
        heads = int(_heads(query)[2])
        return op.Attention(
            _whole(query),
            _whole(key),
            _whole(value),
            self._mask_of(op, mask, _whole(query)),
            q_num_heads=heads,
            kv_num_heads=heads,
            scale=float(_constant(scale).item()),
        )

    def _mask_of(self, op: Any, mask: ir.Value, query: ir.Value) -> ir.Value:
        """Return the mask with a row for every query: onnxruntime does not broadcast it itself."""
        rows, columns = query.shape[1], mask.shape[3]
        if mask.shape[2] != 1:
            return mask
        if isinstance(rows, int):
            extents = op.Constant(value_ints=[1, 1, rows, 1])
        else:
            one = op.Constant(value_ints=[1])
            # The mask's own extent where it is the same: then layers can share the result.
            tokens = (
                op.Shape(mask, start=3, end=4)
                if str(rows) == str(columns)
                else op.Shape(query, start=1, end=2)
            )
            extents = op.Concat(one, one, tokens, one, axis=0)
        return op.Expand(mask, extents)


def _masks(mask: ir.Value, query: ir.Value) -> bool:
    """Tell whether a mask has a column for every key, and one row or one for every query."""
    if mask.shape is None or mask.shape.rank() != 4 or mask.shape[3] == 1:
        return False
    assert query.shape is not None
    return mask.shape[2] == 1 or str(mask.shape[2]) == str(query.shape[1])


def _heads(split: ir.Value) -> Any:
    """Return the shape by which a Reshape splits heads off; None where no Reshape does."""
    node = split.producer()
    return _constant(node.inputs[1]) if node is not None and node.op_type == "Reshape" else None


def _whole(split: ir.Value) -> ir.Value:
    """Return what `split` was before heads were split off."""
    node = split.producer()
    whole = None if node is None else node.inputs[0]
    assert whole is not None  # a Reshape, as `_heads` found
    return whole


def _constant(value: ir.Value | None) -> Any:
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())

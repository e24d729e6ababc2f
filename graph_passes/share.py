"""Find weights that several segments need, and move them into one external file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

SHARED_BYTES = 1 << 16
ALIGNMENT = 1 << 16


def merge_weights(models: Sequence[ir.Model], known: dict[Any, ir.TensorProtocol]) -> None:
    """Let equal weights of 64 kB and more be one tensor object, in place.

    `known` holds those of the models before, and is added to.
    """
    for model in models:
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.nbytes >= SHARED_BYTES:
                digest = hashlib.sha256(tensor.tobytes()).digest()
                key = (tensor.dtype, tuple(tensor.shape), digest)
                value.const_value = known.setdefault(key, tensor)


def share_weights(models: Sequence[ir.Model], location: str) -> list[ir.TensorProtocol]:
    """Make weights of 64 kB and more that occur in several models external, in place.

    Equal weights must be the same tensor object already (`deduplicate_weights`, `cut`,
    `merge_weights`).

    Returns:
        The tensors in the order of the file `location`; each starts at the next multiple of 64 kB.
    """
    holders: dict[ir.TensorProtocol, list[ir.Value]] = {}
    for model in models:
        for value in model.graph.initializers.values():
            if value.const_value is not None and value.const_value.nbytes >= SHARED_BYTES:
                holders.setdefault(value.const_value, []).append(value)
    tensors, offset = [], 0
    for values in holders.values():
        tensor = values[0].const_value
        if len(values) < 2 or tensor is None:
            continue
        tensors.append(tensor)
        for value in values:
            value.const_value = ir.ExternalTensor(
                location,
                offset,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=value.name,
            )
        offset += padded(tensor.nbytes)
    return tensors


def padded(size: int) -> int:
    """Round a size in bytes up to the alignment of the external file."""
    return -(-size // ALIGNMENT) * ALIGNMENT

"""Small graphs as text whose weights are arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from graphs import graph


def weighted(text: str, weights: Mapping[str, np.ndarray], opset: int = 21) -> ir.Model:
    """Read a graph; inputs that `weights` names become constants, nodes `OUTPUT/OPERATOR`."""
    model = graph(text, opset)
    for item in [*model.graph.inputs]:
        if item.name in weights:
            model.graph.inputs.remove(item)
            item.const_value = ir.tensor(weights[item.name], name=item.name)
            model.graph.register_initializer(item)
    for node in model.graph:
        node.name = f"{node.outputs[0].name}/{node.op_type}"
    return model


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Seeded float32 numbers."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)

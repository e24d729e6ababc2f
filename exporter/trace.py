"""Trace a model with exits into one ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import nn

from effbert.exporter.model import ExitModel
from effbert.exporter.quiet import quietly
from effbert.graph_passes.cut import Exit
from effbert.runtime.errors import TraceError

# Distinct and larger than one: torch would bake in extents of 0 and 1.
TRACED_ROWS, TRACED_TOKENS = 2, 9


class _Flat(nn.Module):
    """Return the exits as the flat tuple that torch.export wants."""

    def __init__(self, model: ExitModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        named = dict(zip(self.model.description.inputs, inputs, strict=True))
        flat: list[torch.Tensor] = []
        for hidden, outputs in self.model(**named):
            flat += [hidden, *outputs.values()]
        return tuple(flat)


@dataclass(frozen=True)
class Traced:
    """A traced graph, where its exits are in it, and every weight that torch's tracer made."""

    graph: ir.Model
    exits: list[Exit]
    weights: list[ir.Value]

    def forget_weights(self) -> None:
        """Free the weights of the graph: onnxscript keeps the last graph it rewrote alive."""
        for value in self.weights:
            value.const_value = None


def trace(model: ExitModel, opset: int) -> Traced:
    """Run `torch.onnx.export` once over backbone and exits, batch and sequence dynamic.

    Raises:
        TraceError: torch cannot trace this model.
    """
    dynamic = torch.export.Dim.DYNAMIC
    inputs = example_inputs(model)
    with torch.no_grad():
        names = [tuple(outputs) for _, outputs in model(**inputs)]
    try:
        with quietly(), torch.no_grad():
            program = torch.onnx.export(
                _Flat(model).eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=opset,
                dynamic_shapes=(tuple({0: dynamic, 1: dynamic} for _ in inputs),),
                input_names=list(inputs),
                verbose=False,
                optimize=False,
            )
            assert program is not None
            weights = [*program.model.graph.initializers.values()]
            program.optimize()
            weights += program.model.graph.initializers.values()
    except torch.onnx.OnnxExporterError as error:
        raise TraceError(
            f"torch cannot trace this {model.description.architecture}: {_last_line(error)}"
        ) from error
    flat = iter(program.model.graph.outputs)
    exits = [Exit(hidden=next(flat), outputs={name: next(flat) for name in n}) for n in names]
    return Traced(program.model, exits, weights)


def example_inputs(model: ExitModel) -> dict[str, torch.Tensor]:
    """Make valid inputs of the traced shape: token ids from the vocabulary, no padding."""
    limits = model.description.limits
    tokens = min(max(TRACED_TOKENS, limits.min_length), limits.max_length)
    ids = torch.arange(TRACED_ROWS * tokens).reshape(TRACED_ROWS, tokens) % limits.vocab_size
    every = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    return {name: every[name] for name in model.description.inputs}


def _last_line(error: BaseException) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return f"{type(cause).__name__}: {str(cause).strip().splitlines()[0] if str(cause) else ''}"

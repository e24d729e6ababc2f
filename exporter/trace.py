"""Trace a model with exits into one ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import nn

from effbert.exporter.models.exit_model import WORD_MAP, Description, ExitModel
from effbert.exporter.quiet import quietly
from effbert.exporter.translations import TRANSLATIONS, only_needed_decompositions
from effbert.graph_passes.cut import Exit
from effbert.runtime.bundle.manifest import Knob, to_float
from effbert.runtime.errors import TraceError

# Distinct and larger than one: torch would bake in extents of 0 and 1.
TRACED_ROWS, TRACED_TOKENS = 2, 9
# From 23 on torch writes rotary embeddings as an operator whose inputs onnxruntime refuses; what
# else it writes means the same in later opsets.
NEWEST = 22


class _Flat(nn.Module):
    """Return the exits as the flat tuple that torch.export wants."""

    def __init__(self, model: ExitModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        description = self.model.description
        count = len(description.inputs)
        named = dict(zip(description.inputs, inputs[:count], strict=True))
        flat: list[torch.Tensor] = []
        for hidden, outputs in self.model(**named, **knob_values(description, inputs[count:])):
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
        TraceError: Torch cannot trace this model.
    """
    knobs = never_knobs(model.description)
    with torch.no_grad():
        values = knob_values(model.description, list(knobs.values()))
        names = [tuple(outputs) for _, outputs in model(**example_inputs(model), **values)]
    try:
        try:
            with only_needed_decompositions():
                program = _onnx_program(model, opset)
        except torch.onnx.OnnxExporterError:  # an operator that torch decomposes unasked
            program = _onnx_program(model, opset)
    except torch.onnx.OnnxExporterError as error:
        raise TraceError(
            f"torch cannot trace this {model.description.architecture}: {_last_line(error)}"
        ) from error
    weights = [*program.model.graph.initializers.values()]
    program.optimize()
    weights += program.model.graph.initializers.values()
    program.model.opset_imports[""] = opset
    flat = iter(program.model.graph.outputs)
    exits = [Exit(hidden=next(flat), outputs={name: next(flat) for name in n}) for n in names]
    return Traced(program.model, exits, weights)


def _onnx_program(model: ExitModel, opset: int) -> torch.onnx.ONNXProgram:
    dynamic = torch.export.Dim.DYNAMIC
    inputs = example_inputs(model)
    knobs = never_knobs(model.description)
    shapes = (*({0: dynamic, 1: dynamic} for _ in inputs), *({} for _ in knobs))
    with quietly(), torch.no_grad():
        program = torch.onnx.export(
            _Flat(model).eval(),
            (*inputs.values(), *knobs.values()),
            dynamo=True,
            opset_version=min(opset, NEWEST),
            dynamic_shapes=(shapes,),
            input_names=[*inputs, *knobs],
            verbose=False,
            optimize=False,
            custom_translation_table=dict(TRANSLATIONS),
        )
    assert program is not None
    return program


def knob_input(knob: Knob, exit_index: int) -> str:
    """Name the traced graph's input for what a knob is at one exit."""
    return f"{knob.name}_at_{exit_index}" if knob.per_exit else knob.name


def never_knobs(description: Description) -> dict[str, torch.Tensor]:
    """Give the knobs that the model reads, by input name, at the values that never exit."""
    exits = range(len(description.layers))
    return {
        knob_input(knob, index): torch.full(
            [] if knob.count is None else [knob.count],
            to_float(knob.never),
            dtype=getattr(torch, knob.dtype),
        )
        for knob in description.knobs
        for index in (exits if knob.per_exit else range(1))
    }


def knob_values(
    description: Description, inputs: Sequence[torch.Tensor]
) -> dict[str, torch.Tensor | list[torch.Tensor]]:
    """Turn one tensor an input back into what the model reads: a list for per-exit knobs."""
    rest = iter(inputs)
    return {
        knob.name: [next(rest) for _ in description.layers] if knob.per_exit else next(rest)
        for knob in description.knobs
    }


def example_inputs(model: ExitModel) -> dict[str, torch.Tensor]:
    """Make valid inputs of the traced shape: token ids from the vocabulary, no padding."""
    limits = model.description.limits
    tokens = min(max(TRACED_TOKENS, limits.min_length), limits.max_length)
    ids = torch.arange(TRACED_ROWS * tokens).reshape(TRACED_ROWS, tokens) % limits.vocab_size
    every = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
        WORD_MAP: torch.arange(tokens).expand(TRACED_ROWS, tokens).contiguous(),
    }
    return {name: every[name] for name in model.description.inputs}


def _last_line(error: BaseException) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return f"{type(cause).__name__}: {str(cause).strip().splitlines()[0] if str(cause) else ''}"

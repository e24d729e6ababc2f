"""NVIDIA ModelOpt: any encoder whose linear layers were quantized to int8 by `mtq.quantize`.

Weights are stored in float beside the largest absolute values (`_amax`) of the quantizers of inputs
and weights; with SmoothQuant the weights are divided already and `_pre_quant_scale` multiplies the
inputs. `modelopt_state.pth` says which quantizers are on, and their kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.checkpoints.tensors import Tensors
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "TensorRT Model Optimizer (NVIDIA), https://github.com/NVIDIA/Model-Optimizer"
STATE = "modelopt_state.pth"
INPUT, WEIGHT = "input_quantizer", "weight_quantizer"
MARK = f".{WEIGHT}._amax"
BITS = 8
Properties = Mapping[str, Any]


def detect(shapes: Shapes, config: Config) -> bool:
    """Quantizers whose names begin without an underscore."""
    del config
    return any(key.endswith(MARK) for key in shapes)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build transformers' own model of the task, with the quantizers of the checkpoint in it.

    Raises:
        CheckpointError: A quantizer is of a kind that is not int8, or tensors do not fit.
        ExportError: The family cannot be exported, or the task or the exits do not exist.
    """
    from effbert.exporter.encoders.calibrated import quantizers_by_module, without_quantizers
    from effbert.exporter.formats.plain import build

    tensors = checkpoint.load_tensors()
    model = build(
        checkpoint, options, name="modelopt", paper=PAPER, tensors=without_quantizers(tensors),
        precision="int8",
    )  # fmt: skip
    states = _states(checkpoint)
    for name in states:
        if not _is_on(name, states):
            checkpoint.account.leave_out(re.escape(name) + r"\..+", "quantizers that are off")
    for path, quantizers in quantizers_by_module(tensors).items():
        if unknown := sorted(quantizers - {INPUT, WEIGHT}):
            raise CheckpointError(
                f"{checkpoint.name} holds {path}.{unknown[0]}, but effbert knows quantizers of "
                "inputs and weights only; quantize again with a configuration that leaves it off, "
                "such as INT8_DEFAULT_CFG."
            )
        _quantize(checkpoint, model.model, path, tensors, states)
    return model


def _states(checkpoint: Checkpoint) -> dict[str, Properties]:
    """Read the properties of every quantizer by its name; none if the file is missing."""
    from effbert.exporter.checkpoints.checkpoint import read_restricted

    path = checkpoint.folder / STATE
    if not path.is_file():
        return {}
    try:
        modes = read_restricted(path)["modelopt_state_dict"]
        found = {k: v for _, mode in modes for k, v in _quantizers(mode).items()}
    except Exception as error:  # the unpickler raises many kinds, all meaning the same to a user
        raise CheckpointError(
            f"{path} could not be read as plain values; save the model again with ModelOpt."
        ) from error
    return {str(name): each for name, each in found.items() if isinstance(each, dict)}


def _quantizers(mode: Any) -> Mapping[str, Any]:
    states: Mapping[str, Any] = mode.get("metadata", {}).get("quantizer_state", {})
    return states


def _quantize(
    checkpoint: Checkpoint,
    model: Any,
    path: str,
    tensors: Tensors,
    states: Mapping[str, Properties],
) -> None:
    """Put the quantizers of one module into it."""
    from torch import nn

    from effbert.exporter.encoders.calibrated import calibrated_module
    from effbert.exporter.encoders.quantizers import (
        QuantizedLinear,
        RoundedInput,
        quantize_weight,
        replace_module,
    )

    module = calibrated_module(checkpoint, model, path)
    inputs = _rounding(tensors, f"{path}.{INPUT}", states)
    scale = tensors.get(f"{path}.{INPUT}._pre_quant_scale")
    weight = f"{path}.{WEIGHT}"
    replaced: nn.Module
    if isinstance(module, nn.Linear) and f"{weight}._amax" in tensors and _is_on(weight, states):
        narrow = bool(states.get(weight, {}).get("_narrow_range"))
        levels, steps = quantize_weight(
            module.weight.detach(), tensors[f"{weight}._amax"], narrow=narrow
        )
        bias = None if module.bias is None else module.bias.detach()
        replaced = QuantizedLinear(levels, steps, bias, inputs, scale)
    elif inputs is not None or scale is not None:
        replaced = RoundedInput(module, inputs or nn.Identity(), scale)
    else:
        return
    replace_module(model, path, replaced.eval())


def _rounding(tensors: Tensors, name: str, states: Mapping[str, Properties]) -> Any:
    """Read a quantizer of activations; None where it is off."""
    from effbert.exporter.encoders.calibrated import largest_value
    from effbert.exporter.encoders.quantizers import Quantizer

    largest = largest_value(tensors, f"{name}._amax") if _is_on(name, states) else None
    state = states.get(name, {})
    if largest is None:
        if state.get("_dynamic") and not state.get("_disabled"):
            raise CheckpointError(
                f"{name} takes its scale from each batch, so rows would depend on each other; "
                "calibrate it: quantize again with INT8_DEFAULT_CFG."
            )
        return None
    if state.get("_unsigned"):
        return Quantizer.positive(largest)
    return Quantizer.symmetric(largest, narrow=bool(state.get("_narrow_range")))


def _is_on(name: str, states: Mapping[str, Properties]) -> bool:
    """Tell whether a quantizer is on.

    Raises:
        CheckpointError: It is on, and of another kind than int8.
    """
    state = states.get(name, {})
    if state.get("_disabled"):
        return False
    if state.get("_num_bits", BITS) != BITS or state.get("_block_sizes"):
        kind = "blocks" if state.get("_block_sizes") else f"{state['_num_bits']!r:.20} bits"
        raise CheckpointError(
            f"{name} rounds to {kind}, and effbert reads int8 with a scale for each tensor or row; "
            "quantize again with INT8_DEFAULT_CFG or INT8_SMOOTHQUANT_CFG."
        )
    return True


FORMAT = Format(
    name="modelopt", paper=PAPER, detect=detect, load=load, policies=("none",), skips_layers=True
)

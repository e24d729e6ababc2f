"""QDQBERT: BERT quantized by pytorch-quantization (Wu et al., 2020, arXiv 2004.09602).

Weights are stored in float beside the largest absolute value (`_amax`) of every quantizer: of the
inputs and weights of linear layers, the operands of both attention products, and both sides of the
residual additions. Signed 8-bit levels, 127 of which stand for `_amax`; -128 is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions

if TYPE_CHECKING:
    from torch import nn

    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.checkpoints.tensors import Tensors
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "Integer quantization (Wu et al., 2020), https://arxiv.org/abs/2004.09602"
AMAX, SCALE = "_quantizer._amax", "_quantizer._pre_quant_scale"
TINY = 2.0**-24  # what is smaller rounds everything to 0
OPERANDS = {"query": "matmul_q", "key": "matmul_k", "shares": "matmul_a", "value": "matmul_v"}


def detect(shapes: Shapes, config: Config) -> bool:
    """Quantizers of pytorch-quantization, whose names begin with an underscore."""
    del config
    return any(key.endswith(f"._weight{AMAX}") for key in shapes)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build transformers' BERT of the task, with the quantizers of the checkpoint in it.

    Raises:
        CheckpointError: Tensors are missing, unknown or of the wrong shape.
        ExportError: The task or the exits do not exist.
    """
    from effbert.exporter.encoders.calibrated import quantizers_by_module, without_quantizers
    from effbert.exporter.formats.plain import build

    kind = checkpoint.config.get("architectures") or []
    config = {
        **checkpoint.config,
        "model_type": "bert",
        "architectures": [str(name).replace("QDQBert", "Bert") for name in kind],
    }
    tensors = checkpoint.load_tensors()
    model = build(
        checkpoint, options, name="qdqbert", paper=PAPER, config=config,
        tensors=without_quantizers(tensors), precision="int8",
    )  # fmt: skip
    for path in quantizers_by_module(tensors):
        _quantize(checkpoint, model.model, path, tensors)
    return model


def _quantize(checkpoint: Checkpoint, model: Any, path: str, tensors: Tensors) -> None:
    """Put the quantizers of one module into it."""
    from effbert.exporter.encoders.calibrated import calibrated_module
    from effbert.exporter.encoders.quantizers import (
        QuantizedLinear,
        RoundedAttention,
        RoundedInput,
        RoundedResidual,
        quantize_weight,
        replace_module,
    )

    module: Any = calibrated_module(checkpoint, model, path)
    replaced: nn.Module
    if hasattr(module, "query"):
        found = {
            name: _rounding(tensors, f"{path}.{each}_input") for name, each in OPERANDS.items()
        }
        replaced = RoundedAttention(module, {k: each for k, each in found.items() if each})
    elif hasattr(module, "LayerNorm"):
        sides = (f"{path}.add_{side}_input" for side in ("local", "residual"))
        replaced = RoundedResidual(module, *(_rounding(tensors, side, keep=True) for side in sides))
    else:
        inputs = _rounding(tensors, f"{path}._input")
        scale = tensors.get(f"{path}._input{SCALE}")
        largest = tensors.get(f"{path}._weight{AMAX}")
        if largest is not None:
            levels, steps = quantize_weight(module.weight.detach(), largest)
            replaced = QuantizedLinear(levels, steps, module.bias.detach(), inputs, scale)
        elif inputs is not None:
            replaced = RoundedInput(module, inputs, scale)
        else:
            return
    replace_module(model, path, replaced.eval())


def _rounding(tensors: Tensors, name: str, keep: bool = False) -> Any:
    """Read a quantizer of activations; without `_amax` it is off.

    Returns:
        None where it is off, or with `keep` what leaves values as they are.
    """
    from torch import nn

    from effbert.exporter.encoders.calibrated import largest_value
    from effbert.exporter.encoders.quantizers import Quantizer

    largest = largest_value(tensors, f"{name}{AMAX}")
    if largest is None:
        return nn.Identity() if keep else None
    return Quantizer.symmetric(largest if largest > TINY else 0.0)


FORMAT = Format(
    name="qdqbert", paper=PAPER, detect=detect, load=load, policies=("none",), skips_layers=True
)

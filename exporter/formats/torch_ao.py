"""torch.ao's dynamic quantization: `quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)`.

Weights are int8; the levels of the inputs are chosen anew for each batch, from its smallest and
largest value. Here they are chosen for each row, as for a row alone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.checkpoints.tensors import Tensors
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "torch.ao.quantization, https://docs.pytorch.org/docs/stable/quantization.html"
BY_ROW = (
    "torch.ao chooses the scales of activations for a whole batch, the bundle for each row as if "
    "it were alone, so a row's answer does not depend on its batch."
)


def detect(shapes: Shapes, config: Config) -> bool:
    """Packed weights, by the names that `packed` gives their parts."""
    from effbert.exporter.checkpoints.packed import STEPS

    del config
    return any(key.endswith(STEPS) for key in shapes)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build transformers' own model of the task with the packed layers in it.

    Raises:
        CheckpointError: It was quantized statically, or tensors do not fit.
        ExportError: The family cannot be exported, or the task or the exits do not exist.
    """
    import torch

    from effbert.exporter.checkpoints.packed import STEPS
    from effbert.exporter.encoders.dynamic_rounding import DynamicLinear
    from effbert.exporter.encoders.quantizers import replace_module
    from effbert.exporter.formats.plain import build

    tensors = checkpoint.load_tensors()
    paths = [key.removesuffix(STEPS) for key in tensors if key.endswith(STEPS)]
    _require_dynamic(checkpoint, tensors, paths)
    for path in paths:
        dummies = re.escape(path) + r"\.(scale|zero_point)"
        checkpoint.account.leave_out(dummies, "scales of outputs, which stay float32")
    own = {f"{path}{part}" for path in paths for part in (STEPS, ".scale", ".zero_point")}
    plain = tensors.renamed(lambda name: None if name in own else name)
    model = build(
        checkpoint, options, name="torch_ao", paper=PAPER, tensors=plain, precision="int8",
        notes=(BY_ROW,),
    )  # fmt: skip
    # Padding would be among the values that the scales are chosen from.
    model.description = replace(model.description, padding_free=False)
    for path in paths:
        linear, steps = model.model.get_submodule(path), tensors[f"{path}{STEPS}"]
        weight = linear.get_parameter("weight").detach()
        levels = (weight / steps[:, None]).round().to(torch.int8)
        bias = linear.get_parameter("bias").detach() if hasattr(linear, "bias") else None
        replace_module(model.model, path, DynamicLinear(levels, steps, bias).eval())
    return model


def _require_dynamic(checkpoint: Checkpoint, tensors: Tensors, paths: list[str]) -> None:
    for path in paths:
        scale, zero = tensors.get(f"{path}.scale"), tensors.get(f"{path}.zero_point")
        if (scale is not None and scale.item() != 1) or (zero is not None and zero.item() != 0):
            raise CheckpointError(
                f"{checkpoint.name} was quantized statically by torch.ao ({path}.scale), and its "
                "tensors do not say where activations become integers; quantize with "
                "quantize_dynamic, or export the float model with --precision int8."
            )


FORMAT = Format(
    name="torch_ao", paper=PAPER, detect=detect, load=load, policies=("none",), skips_layers=True
)

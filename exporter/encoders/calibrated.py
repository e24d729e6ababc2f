"""What pytorch-quantization and ModelOpt store beside the weights of calibrated modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.checkpoints.tensors import Tensors

OWN = "_quantizer._"  # in the name of each tensor of a quantizer


def without_quantizers(tensors: Tensors) -> Tensors:
    """Return the tensors of the model itself."""
    return tensors.renamed(lambda name: None if OWN in name else name)


def quantizers_by_module(tensors: Tensors) -> dict[str, set[str]]:
    """Map the path of each calibrated module, in order, to the names of its quantizers."""
    found: dict[str, set[str]] = {}
    for key in sorted(key for key in tensors if OWN in key):
        path, quantizer, _ = key.rsplit(".", 2)
        found.setdefault(path, set()).add(quantizer)
    return dict(sorted(found.items()))


def calibrated_module(checkpoint: Checkpoint, model: nn.Module, path: str) -> nn.Module:
    """Find the module that quantizers belong to.

    Raises:
        CheckpointError: The model has none of this name.
    """
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise CheckpointError(
            f"{checkpoint.name} holds quantizers of {path}, a module that the model has not."
        ) from error


def largest_value(tensors: Tensors, key: str) -> float | None:
    """Read the absolute value that activations were calibrated to; None if there is none.

    Raises:
        CheckpointError: There is one for each channel.
    """
    largest = tensors.get(key)
    if largest is None:
        return None
    if largest.numel() != 1:
        raise CheckpointError(
            f"{key} is {list(largest.shape)}, expected one number: activations with a scale for "
            "each channel cannot be multiplied as integers; calibrate them per tensor."
        )
    return float(largest)

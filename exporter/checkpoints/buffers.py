"""Constants that older versions of transformers saved beside the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from effbert.runtime.errors import CheckpointError

POSITIONS, TYPES = re.compile(r"(.*\.)?position_ids"), re.compile(r"(.*\.)?token_type_ids")


def require_usual(checkpoint: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that stored positions count from 0 and stored token types are 0, as graphs have them.

    Raises:
        CheckpointError: They do not, so the model was changed.
    """
    for name, tensor in tensors.items():
        counted = torch.arange(tensor.numel()) if POSITIONS.fullmatch(name) else None
        counted = torch.zeros(tensor.numel()) if TYPES.fullmatch(name) else counted
        if counted is not None and not torch.equal(tensor.flatten().long(), counted.long()):
            raise CheckpointError(
                f"{checkpoint}: {name} does not hold the usual numbers, so this is no ordinary "
                "model, and effbert cannot reproduce it; set it back if it was changed by mistake."
            )

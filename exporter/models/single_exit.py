"""A transformers task model as a model with one exit, after its last layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from effbert.exporter.encoders.families import Family
from effbert.exporter.models.exit_model import Description, ExitModel


class SingleExitModel(ExitModel):
    """Wrap a task model of transformers, head included."""

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        description: Description,
    ) -> None:
        """Take the model and what is known about its family."""
        super().__init__()
        self.model = model
        self.mask = family.mask
        self.resamples = family.resamples and description.task != "text-classification"
        self.description = description

    def exits(
        self,
        input_ids: torch.Tensor,
        mask: torch.Tensor,
        token_type_ids: torch.Tensor | None,
        **more: Any,
    ) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """See `ExitModel.exits`."""
        inputs = {"input_ids": input_ids}
        if self.mask != "unused":
            inputs["attention_mask"] = mask.float() if self.mask == "float" else mask
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        answer = self.model(**inputs, output_hidden_states=True, **more)
        outputs = {name: answer[name] for name in self.description.outputs}
        if self.resamples:
            # Halving and doubling leave a length that torch cannot tell from the one of the input.
            columns = torch.arange(input_ids.shape[1])
            outputs = {name: value.index_select(1, columns) for name, value in outputs.items()}
        return [(answer.hidden_states[-1], outputs)]

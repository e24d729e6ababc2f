"""Several complete models in a row, each of which starts again from the token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from effbert.exporter.heads.pooled import PooledHead
from effbert.exporter.models.exit_model import Description, ExitModel


class CascadeModel(ExitModel):
    """A cascade: exit k is the answer of member k, an encoder and the head behind its last layer.

    No member reads what another computed, so nothing but the policy's state crosses a cut.
    """

    def __init__(
        self, members: Sequence[nn.Module], heads: Sequence[PooledHead], description: Description
    ) -> None:
        """Take transformers encoders without head, in order, and one head each."""
        super().__init__()
        self.member = nn.ModuleList(members)
        self.exit = nn.ModuleList(heads)
        self.description = description

    def exits(
        self,
        input_ids: torch.Tensor,
        mask: torch.Tensor,
        token_type_ids: torch.Tensor | None,
        **more: Any,
    ) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """See `ExitModel.exits`; the hidden states are those after each member's last layer."""
        outputs = []
        for member, head in zip(self.member, self.exit, strict=True):
            hidden = member(
                input_ids=input_ids, attention_mask=mask, token_type_ids=token_type_ids
            ).last_hidden_state
            outputs.append((hidden, {"logits": head(hidden)}))
        return outputs

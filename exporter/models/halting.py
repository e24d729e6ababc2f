"""ALBERT with Adaptive Computation Time: each token mixes its states until it has halted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from effbert.exporter.heads.pooled import PooledHead
from effbert.exporter.models.exit_model import Description, ExitModel, additive_mask


class HaltingModel(ExitModel):
    """One ALBERT layer, repeated; after every step the same head answers.

    A token that has halted keeps its state. Halting probability and mixed state are the carries.
    """

    def __init__(
        self,
        backbone: nn.Module,
        halting: nn.Linear,
        head: PooledHead,
        description: Description,
        epsilon: float,
    ) -> None:
        """Take an AlbertModel, the halting unit, the head and ACT's epsilon."""
        super().__init__()
        self.model: Any = backbone
        self.halting = halting
        self.exit = head
        self.description = description
        self.full = 1.0 - epsilon

    def exits(
        self, input_ids: Tensor, mask: Tensor, token_type_ids: Tensor | None, **more: Any
    ) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """See `ExitModel.exits`; the mask may be 0/1 or additive."""
        additive = mask if mask.ndim == 4 else additive_mask(mask)
        real = additive[:, 0, 0, :] == 0
        encoder = self.model.encoder
        layer = encoder.albert_layer_groups[0].albert_layers[0]
        embedded = self.model.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        state = encoder.embedding_hidden_mapping_in(embedded)
        gathered = torch.zeros_like(state[..., 0])
        exits = []
        for step in range(1, max(self.description.layers) + 1):
            new = layer(state, attention_mask=additive)
            new = new[0] if isinstance(new, tuple) else new
            chance = torch.sigmoid(self.halting(new)[..., 0])
            running = gathered < 1
            halts = running & (gathered + chance > self.full)
            share = torch.where(halts, 1 - gathered, torch.where(running, chance, 0.0))
            gathered = gathered + share
            state = share[..., None] * new + (1 - share[..., None]) * state
            if step in self.description.layers:
                halted = torch.where(real, gathered, 1.0).amin(1)
                exits.append((state, {"logits": self.exit(state), "halted": halted}))
        return exits

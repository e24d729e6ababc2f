"""What every checkpoint format becomes: a torch module that yields one answer an exit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from effbert.runtime.manifest import Limits, Problem, Task

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
OVERRIDE = "override_logits"


@dataclass(frozen=True)
class Description:
    """What the manifest needs to know about a loaded checkpoint.

    `layers` are the 1-based encoder layers of the exits, in order. `policy` is the paper's own exit
    policy, `knobs` the paper's or the checkpoint's settings that differ from the policy's defaults.
    """

    format: str
    architecture: str
    paper: str
    task: Task
    problem: Problem | None
    labels: tuple[str, ...]
    layers: tuple[int, ...]
    limits: Limits
    policy: str
    inputs: tuple[str, ...] = INPUT_NAMES
    outputs: tuple[str, ...] = ("logits",)
    padding_free: bool = True
    atol: float = 1e-4


class ExitModel(nn.Module):
    """A model with exits, ready to be traced.

    `forward(input_ids, attention_mask[, token_type_ids])`, each int64 [batch, sequence], returns
    one pair an exit: the hidden state [batch, sequence, hidden] after the exit's layer, and the
    exit's outputs by name. An exit may also yield `override_logits`: the policy then looks at
    those, and they replace the logits where it fires (the last highway of DeeBERT).
    """

    description: Description

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """Run all layers and all exits; see the class docstring."""
        return self.exits(input_ids, additive_mask(attention_mask), token_type_ids)

    def exits(
        self,
        input_ids: torch.Tensor,
        mask: torch.Tensor,
        token_type_ids: torch.Tensor | None,
    ) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """Run with a mask of the backbone's own kind.

        Verification calls this with the 0/1 mask [batch, sequence], so that the mask we prepare for
        tracing is itself checked against the one that transformers prepares.
        """
        raise TypeError(f"{type(self).__name__} has no exits")


class MultiExitModel(ExitModel):
    """A transformers encoder and a module that turns its hidden states into one answer an exit."""

    def __init__(
        self, backbone: nn.Module, heads: nn.Module, description: Description, inner: int = 1
    ) -> None:
        """Take an encoder without head, and `heads(hidden_states) -> [outputs of each exit]`.

        `hidden_states` is the tuple of [batch, sequence, hidden] after each encoder layer. `inner`
        is how many hidden states the encoder records a layer: ALBERT's `inner_group_num`.
        """
        super().__init__()
        self.backbone = backbone
        self.heads = heads
        self.description = description
        self.inner = inner

    def exits(
        self,
        input_ids: torch.Tensor,
        mask: torch.Tensor,
        token_type_ids: torch.Tensor | None,
    ) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """See `ExitModel.exits`."""
        states = self.backbone(
            input_ids=input_ids,
            attention_mask=mask,
            output_hidden_states=True,
            **({} if token_type_ids is None else {"token_type_ids": token_type_ids}),
        ).hidden_states[self.inner :: self.inner]
        outputs: Sequence[dict[str, torch.Tensor]] = self.heads(states)
        return [
            (states[layer - 1], output)
            for layer, output in zip(self.description.layers, outputs, strict=True)
        ]


def additive_mask(attention_mask: torch.Tensor) -> torch.Tensor:
    """Turn a 0/1 mask [batch, sequence] into an additive float32 mask [batch, 1, 1, sequence].

    Encoders that accept it skip transformers' own mask construction, which would put shape
    arithmetic into every segment.
    """
    blocked = 1.0 - attention_mask[:, None, None, :].to(torch.float32)
    return blocked * torch.finfo(torch.float32).min

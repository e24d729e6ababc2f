"""What every checkpoint format becomes: a torch module that yields one answer an exit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from effbert.exporter.encoders.families import Mask
from effbert.runtime.bundle.manifest import Knob, Limits, Precision, Problem, Task

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
WORD_MAP = "word_map"
OVERRIDE = "override_logits"
BACKBONE_KNOBS = ("lengths",)  # the encoder reads these, the heads all others


@dataclass(frozen=True)
class Description:
    """What the manifest needs to know about a loaded checkpoint.

    `layers` are the 1-based encoder layers of the exits, in order. `policy` is the paper's own exit
    policy, `defaults` the knob values that the checkpoint brings along. `extras` names what exits
    yield for policies to watch, beside the answers; `knobs` are those that the model itself reads.
    `notes` are sentences for the user: what the checkpoint lacks, and what to do about it. A model
    that decides itself, token by token, is verified at the knob values of `trials`. `padded_to` is
    the number of tokens to which the model itself pads every row. `skipped` are the layers, from 1,
    that the checkpoint has and the model leaves out. `precision` is what a quantized checkpoint
    computes in; the graph then holds its integers.
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
    extras: tuple[str, ...] = ()
    knobs: tuple[Knob, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trials: tuple[Mapping[str, Any], ...] = ()
    padded_to: int | None = None
    skipped: tuple[int, ...] = ()
    precision: Precision = "fp32"


class ExitModel(nn.Module):
    """A model with exits, ready to be traced.

    `forward(input_ids, attention_mask[, token_type_ids])`, each int64 [batch, sequence], returns
    one pair an exit: the hidden state [batch, sequence, hidden] after the exit's layer, and the
    exit's outputs by name: the answers and the description's `extras`. An exit may also yield
    `override_logits`: the policy then looks at those, and they replace the logits where it fires
    (the last highway of DeeBERT).

    `mask` is what `forward` makes of the attention mask; see `Family`.

    `more` holds further inputs, and the knobs that the model reads: a 0-d tensor each, for a
    per-exit knob a list of one an exit, of which an exit may use its own only.
    """

    description: Description
    mask: Mask = "additive"

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        **more: Any,
    ) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """Run all layers and all exits; see the class docstring."""
        prepared = additive_mask(attention_mask) if self.mask == "additive" else attention_mask
        return self.exits(input_ids, prepared, token_type_ids, **more)

    def exits(
        self,
        input_ids: torch.Tensor,
        mask: torch.Tensor,
        token_type_ids: torch.Tensor | None,
        **more: Any,
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

        `hidden_states` is the tuple of [batch, sequence, hidden] after each encoder layer; knobs
        that the model reads are passed by name. `inner` is how many hidden states the encoder
        records a layer: ALBERT's `inner_group_num`.
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
        **more: Any,
    ) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """See `ExitModel.exits`."""
        own = {name: more.pop(name) for name in BACKBONE_KNOBS if name in more}
        states = self.backbone(
            input_ids=input_ids,
            attention_mask=mask,
            output_hidden_states=True,
            **({} if token_type_ids is None else {"token_type_ids": token_type_ids}),
            **own,
        ).hidden_states[self.inner :: self.inner]
        outputs: Sequence[dict[str, torch.Tensor]] = self.heads(states, **more)
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
